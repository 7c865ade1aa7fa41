"""The state of a lab's namespaces at one moment: interfaces, addresses, routes, rules and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_netns.drawing.state import InterfaceState, NamespaceState, RouteState
from pytest_netns.kernel.netlink import messages, rtaddresses, rtdetails, rtlinks, rtroutes, rtrules
from pytest_netns.kernel.netlink.rtlinks import LinkInfo
from pytest_netns.lab.routing import configured, is_own, rule_of
from pytest_netns.parts.links.kinds import NAMES, kind_named
from pytest_netns.values import IPInterface
from pytest_netns.values.notes import Note
from pytest_netns.values.shapes import is_mapping

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.links import Links, Tables
    from pytest_netns.lab.namespace import Namespace


def decode(
    name: str,
    tables: Tables,
    notes: Iterable[Note] = (),
    peer: Callable[[LinkInfo], tuple[str, str] | None] = lambda _: None,
) -> NamespaceState:
    """Decode the kernel's messages."""
    links = [(link, body) for body in tables[0] if (link := rtlinks.parse_listed_link(body)) is not None]
    names = {link.index: link.name for link, _ in links}
    addresses: dict[int, list[IPInterface]] = {}
    for body in tables[1]:
        index, address = rtaddresses.parse_address(body)
        addresses.setdefault(index, []).append(address)
    interfaces = tuple(
        InterfaceState(
            link.name,
            link.kind,
            link.mac,
            link.mtu,
            bool(link.flags & rtlinks.IFF_UP),
            bool(link.flags & rtlinks.IFF_RUNNING),
            tuple(addresses.get(link.index, ())),
            names.get(link.master, ""),
            peer(link),
            link.rx_packets,
            link.tx_packets,
            link.rx_bytes,
            link.tx_bytes,
            link.rx_dropped + link.tx_dropped,
            link.index,
            (*texts(notes, link.name), *rtdetails.link_details(body), *_kind_words(link, body, names)),
        )
        for link, body in links
    )
    route_infos = [info for info in map(rtroutes.parse_route, tables[2]) if info is not None]
    routes = (
        RouteState(str(route), not route.is_connected, route.destination.is_link_local)
        for route in configured(route_infos, names)
    )
    return NamespaceState(name, interfaces, tuple(routes), notes=texts(notes, ""))


def _kind_words(info: LinkInfo, body: bytes, names: Mapping[int, str]) -> Iterator[str]:
    """The important properties of an interface's kind: VLAN 10, VNI 7; for the common kinds see `rtdetails`."""
    if info.kind in ("veth", "bridge") or info.kind not in NAMES:
        return
    kind = kind_named(info.kind)
    data = messages.read("link", body).get("linkinfo", {}).get("data", {})
    if is_mapping(data) and (description := kind.describe(data)):
        yield description
    if "link" in kind.needs and info.peer_nsid is None and info.peer_index in names:
        yield f"on {names[info.peer_index]}"


def _policy(links: Links) -> tuple[str, ...]:
    """The policy routing rules that were added."""
    rules = links.netlink.dump(rtrules.dump_rules(), rtrules.parse_rule)
    return tuple(str(rule_of(info)) for info in rules if not is_own(info))


def texts(notes: Iterable[Note], interface: str) -> tuple[str, ...]:
    """The notes of one interface; of the namespace as a whole for ``""``."""
    return tuple(note.text for note in notes if note.interface == interface)


def network(namespace: Namespace, notes: Iterable[Note]) -> NamespaceState:
    """The state of one namespace for a drawing: interfaces, addresses and notes."""
    state = decode(namespace.name, namespace.links.tables(), notes, partial(_peer, namespace.links))
    forwarding = namespace.sysctl("net.ipv4.ip_forward") == "1"
    return replace(state, forwarding=forwarding, policy=_policy(namespace.links))


def networks(lab: Lab) -> tuple[NamespaceState, ...]:
    """The state of all namespaces for a drawing."""
    notes = lab.notes.by_namespace()
    return tuple(network(each, notes.get(each.name, ())) for each in lab)


def _peer(links: Links, info: LinkInfo) -> tuple[str, str] | None:
    """The namespace and name of the other end of a veth pair."""
    peer = links.peer_of(info)
    return None if peer is None else (peer.home.name, peer.name)

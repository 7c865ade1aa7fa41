"""The interfaces, addresses and routes of a lab's namespaces at one moment, and what is set in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_netns.explaining.snapshot import Tables, nat_notes, read_tables
from pytest_netns.explaining.state import InterfaceState, NamespaceState
from pytest_netns.kernel.netlink import rtnetlink, rtroutes

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.namespace import Namespace


def decode(
    name: str,
    tables: Tables,
    notes: tuple[str, ...] = (),
    peers: Mapping[int, tuple[str, str]] | None = None,
) -> NamespaceState:
    """What the messages say."""
    links = [rtnetlink.parse_link(body) for body in tables[0]]
    names = {link.index: link.name for link in links}
    addresses: dict[int, list[str]] = {}
    for body in tables[1]:
        index, address = rtnetlink.parse_address(body)
        addresses.setdefault(index, []).append(str(address))
    interfaces = tuple(
        InterfaceState(
            link.name,
            link.kind,
            link.mac,
            link.mtu,
            bool(link.flags & rtnetlink.IFF_UP),
            bool(link.flags & rtnetlink.IFF_RUNNING),
            tuple(addresses.get(link.index, ())),
            names.get(link.master, ""),
            (peers or {}).get(link.index),
            link.rx_packets,
            link.tx_packets,
            link.rx_bytes,
            link.tx_bytes,
            link.rx_dropped + link.tx_dropped,
            link.index,
        )
        for link in links
    )
    routes = []
    for info in (rtroutes.parse_route(body) for body in tables[2]):
        if info is not None:
            via = f" via {info.via}" if info.via is not None else ""
            routes.append(f"{info.destination or 'default'}{via} dev {names.get(info.index, '')}")
    return NamespaceState(name, interfaces, tuple(routes), notes=notes)


def network(namespace: Namespace) -> NamespaceState:
    """What a drawing needs: interfaces, addresses and notes of one namespace."""
    return decode(namespace.name, read_tables(namespace), _notes(namespace), _peers(namespace))


def networks(lab: Lab) -> tuple[NamespaceState, ...]:
    """What a drawing needs of all namespaces."""
    return tuple(network(each) for each in lab)


def _notes(namespace: Namespace) -> tuple[str, ...]:
    forwarding = ("forwarding",) if namespace.sysctl("net.ipv4.ip_forward") == "1" else ()
    return (*forwarding, *nat_notes(namespace))


def _peers(namespace: Namespace) -> dict[int, tuple[str, str]]:
    return {
        index: (interface.peer.namespace.name, interface.peer.name)
        for index, interface in namespace._interfaces.items()
        if interface.peer is not None
    }

"""Looking at a lab: everything a report or a drawing shows of it, collected from the kernel at one moment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_netns.errors import UnavailableError, show_argv
from pytest_netns.explaining.state import InterfaceState, LabState, NamespaceState, ServiceState, changes
from pytest_netns.kernel import conntrack, processes, rtnetlink, sockets
from pytest_netns.kernel.netns import NetworkNamespace

if TYPE_CHECKING:
    from pytest_netns.lab import Lab
    from pytest_netns.namespace import Namespace

PATIENCE = 1.0  # seconds; namespaces not looked at by then are left out
_DUMPS = (rtnetlink.dump_links, rtnetlink.dump_addresses, rtnetlink.dump_routes)


@dataclass(frozen=True)
class Snapshot:
    """A moment as the kernel told it, undecoded: it is taken for every test, and looked at only where one fails."""

    tables: Mapping[str, tuple[list[bytes], ...]]


def snapshot(lab: Lab) -> Snapshot:
    """The interfaces, addresses and routes of all namespaces; about 0.1 ms for each."""
    return Snapshot({namespace.name: _tables(namespace) for namespace in lab})


def observe(lab: Lab, since: Snapshot | None = None) -> LabState:
    """Everything there is to know; what cannot be found out becomes a line among the problems.

    Args:
        lab: may be closed already: then only outputs and failures are left.
        since: for what has changed since then.
    """
    deadline = time.monotonic() + PATIENCE
    states = []
    if not lab.closed:
        running = processes.by_namespace([each._kernel.inode for each in lab])
        inits = {each._view.init.pid for each in lab if each._view is not None}
        for namespace in lab:
            if time.monotonic() > deadline:
                states.append(NamespaceState(namespace.name, problems=(f"not looked at within {PATIENCE:g} s",)))
                continue
            own = running.get(namespace._kernel.inode, [])
            states.append(_look(namespace, [str(each) for each in own if each.pid not in inits]))
    changed: tuple[str, ...] = ()
    if since is not None and states:
        before = {name: _network(name, tables, ()) for name, tables in since.tables.items()}
        changed = tuple(changes(before, {state.name: state for state in states}))
    return LabState(tuple(states), changed, tuple(services(lab)), tuple(str(error) for error in lab._failures))


def networks(lab: Lab) -> tuple[NamespaceState, ...]:
    """What a drawing needs: interfaces, addresses and notes of all namespaces."""
    return tuple(_network(each.name, _tables(each), _notes(each), _peers(each)) for each in lab)


def _tables(namespace: Namespace) -> tuple[list[bytes], ...]:
    return tuple(namespace._netlink.dump(dump(), bytes) for dump in _DUMPS)


def _look(namespace: Namespace, running: Iterable[str]) -> NamespaceState:
    problems: list[str] = []
    kernel = namespace._kernel
    state = NamespaceState(namespace.name)
    with _noting(problems):
        state = _network(namespace.name, _tables(namespace), _notes(namespace), _peers(namespace))
    neighbours, listening, tracked = (
        _shown(look, problems)
        for look in (namespace.neighbours, lambda: _listening(kernel), lambda: conntrack.tracked_connections(kernel))
    )
    ruleset = ""
    with _noting(problems), contextlib.suppress(UnavailableError):  # without nft there are no rules to tell of
        ruleset = namespace.ruleset()
    return replace(
        state,
        neighbours=neighbours,
        listening=listening,
        processes=tuple(running),
        ruleset=ruleset,
        tracked=tracked,
        problems=tuple(problems),
    )


def _listening(kernel: NetworkNamespace) -> list[sockets.ListeningSocket]:
    return [each for protocol in ("tcp", "udp") for each in sockets.listening(kernel, protocol)]


def _network(
    name: str,
    tables: tuple[list[bytes], ...],
    notes: tuple[str, ...],
    peers: Mapping[int, tuple[str, str]] | None = None,
) -> NamespaceState:
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
        )
        for link in links
    )
    routes = []
    for info in (rtnetlink.parse_route(body) for body in tables[2]):
        if info is not None:
            via = f" via {info.via}" if info.via is not None else ""
            routes.append(f"{info.destination or 'default'}{via} dev {names.get(info.index, '')}")
    return NamespaceState(name, interfaces, tuple(routes), notes=notes)


def _peers(namespace: Namespace) -> dict[int, tuple[str, str]]:
    return {
        index: (interface.peer.namespace.name, interface.peer.name)
        for index, interface in namespace._interfaces.items()
        if interface.peer is not None
    }


def _notes(namespace: Namespace) -> tuple[str, ...]:
    notes = ["forwarding"] if namespace.sysctl("net.ipv4.ip_forward") == "1" else []
    for rule in namespace._masquerades:
        notes.append(f"masquerade {rule.source}" + (f" out {rule.out}" if rule.out else ""))
    for forward in namespace._port_forwards:
        notes.append(f"{forward.protocol} {forward.port} → {forward.targets[0]}:{forward.target_port}")
    return tuple(notes)


def services(lab: Lab) -> Iterator[ServiceState]:
    """The lab's services, those that have ended too."""
    for namespace in lab:
        for service in namespace._services:
            command = show_argv(service.args)
            death = _show_death(command, namespace.name, service.returncode) if service.died else ""
            yield ServiceState(command, namespace.name, service.output, death)


def _show_death(command: str, namespace: str, status: int | None) -> str:
    return f"service {command!r} in namespace {namespace!r} ended during the test, with exit status {status}"


def _shown(look: Callable[[], Iterable[object]], problems: list[str]) -> tuple[str, ...]:
    with _noting(problems):
        return tuple(map(str, look()))
    return ()


@contextlib.contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """A report must not fail because something in it cannot be found out."""
    try:
        yield
    except Exception as error:
        problems.append(f"{type(error).__name__}: {error}".splitlines()[0])

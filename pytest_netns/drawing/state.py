"""The state of a network at one moment as plain values, for drawings and reports; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pytest_netns.values import IPInterface


@dataclass(frozen=True)
class InterfaceState:
    """The state of an interface.

    Attributes:
        kind: ``"veth"``, ``"bridge"``, ``"loopback"`` ...
        addresses: its addresses with prefix length.
        bridge: the bridge it is a port of, in the same namespace; empty for none.
        has_carrier: whether it can carry packets: it is up, and so is its peer.
        peer: namespace and name of the other end, if known.
        notes: the notes of components and faults, such as ``"delay 20 ms"``, and the kernel's own treatment of its packets.
    """

    name: str
    kind: str
    mac: str
    mtu: int
    is_up: bool
    has_carrier: bool
    addresses: tuple[IPInterface, ...] = ()
    bridge: str = ""
    peer: tuple[str, str] | None = None
    received: int = 0
    sent: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    dropped: int = 0
    index: int = 0
    notes: tuple[str, ...] = ()


class RouteState(NamedTuple):
    """The state of a route.

    Attributes:
        text: the route as ip-route(8) shows it.
        is_drawn: whether drawings show it: it is not implied by the interfaces' addresses, but has a gateway or a type without one.
        is_link_local: whether it is the kernel's own route for link-local addresses.
    """

    text: str
    is_drawn: bool = False
    is_link_local: bool = False


class NeighbourState(NamedTuple):
    """The state of a neighbour entry.

    Attributes:
        text: the entry as ip-neighbour(8) shows it.
        is_silent: whether it does not answer address resolution.
    """

    text: str
    is_silent: bool = False


@dataclass(frozen=True)
class NamespaceState:
    """The state of a namespace; texts are shown unchanged.

    Attributes:
        policy: the policy routing rules that were added.
        forwarding: whether it is a router.
        notes: the notes of components and faults: masquerades, port forwards, cuts.
        settings: the sysctls that have been set, with their values.
        begun: what has started since set-up: processes, neighbours that do not answer.
        unknown: the kinds of facts that were not read.
        problems: the facts that could not be read, and why.
    """

    name: str
    interfaces: tuple[InterfaceState, ...] = ()
    routes: tuple[RouteState, ...] = ()
    policy: tuple[str, ...] = ()
    neighbours: tuple[NeighbourState, ...] = ()
    listening: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    ruleset: str = ""
    tracked: tuple[str, ...] = ()
    forwarding: bool = False
    notes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    unknown: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()

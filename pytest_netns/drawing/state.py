"""What a network looks like at one moment, as plain values: for drawings and reports; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pytest_netns.values import IPInterface


@dataclass(frozen=True)
class InterfaceState:
    """An interface at one moment.

    Attributes:
        kind: ``"veth"``, ``"bridge"``, ``"loopback"`` ...
        addresses: with prefix length.
        bridge: the bridge it is plugged into, in the same namespace; empty for none.
        has_carrier: whether it can carry packets: it is up, and so is its peer.
        peer: namespace and name of the other end, where it is known.
        notes: what components and faults say of it, such as ``"delay 20 ms"``, and what the kernel does to its packets.
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
    """A route at one moment.

    Attributes:
        text: as ip-route(8) shows it.
        is_drawn: whether a drawing has to say it, since the interfaces' addresses do not: it leads to a gateway, or nowhere.
        is_link_local: whether the kernel has made it by itself, for link-local addresses.
    """

    text: str
    is_drawn: bool = False
    is_link_local: bool = False


class NeighbourState(NamedTuple):
    """An entry of the neighbour table at one moment.

    Attributes:
        text: as ip-neighbour(8) shows it.
        is_silent: whether it has been asked for and does not answer.
    """

    text: str
    is_silent: bool = False


@dataclass(frozen=True)
class NamespaceState:
    """A namespace at one moment; what is text is shown as it is.

    Attributes:
        policy: routing rules that not every namespace has.
        forwarding: whether it is a router.
        notes: what components and faults say of it: masquerades, port forwards, what is cut.
        settings: the sysctls that have been written, with their values.
        begun: what has begun since set-up: processes, neighbours that do not answer.
        unknown: the kinds of facts that were not asked for.
        problems: what could not be found out, and why.
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

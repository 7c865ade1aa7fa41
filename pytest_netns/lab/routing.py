"""Routes, rules and neighbours, as read from a namespace's kernel tables."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from pytest_netns.kernel.netlink.rtroutes import RT_TABLE_LOCAL, RT_TABLE_MAIN, RouteInfo
from pytest_netns.kernel.netlink.rtrules import RuleInfo
from pytest_netns.parts.routes import TABLES
from pytest_netns.values import IPAddress, IPNetwork

# The numbers of linux/rtnetlink.h and linux/fib_rules.h, by iproute2's names.
TYPES: Final = {
    "unicast": 1,
    "local": 2,
    "broadcast": 3,
    "anycast": 4,
    "multicast": 5,
    "blackhole": 6,
    "unreachable": 7,
    "prohibit": 8,
    "throw": 9,
}
_PROTOCOLS = {
    0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 11: "zebra", 12: "bird", 16: "dhcp",
    18: "keepalived", 42: "babel", 186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
}  # fmt: skip
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_TYPE_NAMES = {number: name for name, number in TYPES.items()}
_TABLE_NAMES = {number: name for name, number in TABLES.items()}
_OF_THE_KERNEL = ("local", "broadcast", "anycast", "multicast")
_ZERO: dict[int, IPNetwork] = {socket.AF_INET: ip_network("0.0.0.0/0"), socket.AF_INET6: ip_network("::/0")}
_OWN_RULES = {(0, RT_TABLE_LOCAL), (32766, RT_TABLE_MAIN), (32767, 253)}


@dataclass(frozen=True)
class NextHop:
    """One next hop of a route.

    Attributes:
        via: the gateway; None for a directly connected network.
        interface: the name of the outgoing interface.
        weight: its share of the traffic among several next hops.
    """

    via: IPAddress | None
    interface: str
    weight: int = 1

    def __str__(self) -> str:
        via = f"via {self.via} " if self.via is not None else ""
        return f"{via}dev {self.interface}"


@dataclass(frozen=True)
class Route:
    """A route.

    Attributes:
        destination: the network; ``0.0.0.0/0`` or ``::/0`` for the default route.
        via: the gateway, the first one of a multipath route; None for a directly connected network.
        interface: the name of the outgoing interface; empty for none.
        metric: among several routes to a destination, the lowest metric is used.
        table: the number of the routing table; 254 is the main one.
        protocol: the origin of the route: ``"kernel"``, ``"boot"`` (by hand), ``"static"``, ``"ra"``, ``"bgp"`` ...
        type: ``"unicast"``, ``"blackhole"``, ``"unreachable"``, ``"prohibit"`` ...
        scope: ``"global"``, or for IPv4 ``"link"`` or ``"host"`` for a directly connected network.
        source: the source address of packets sent from here; None if the kernel chooses.
        hops: all next hops of a multipath route; one or none for other routes.
    """

    destination: IPNetwork
    via: IPAddress | None
    interface: str
    metric: int = 0
    table: int = RT_TABLE_MAIN
    protocol: str = "boot"
    type: str = "unicast"
    scope: str = "global"
    source: IPAddress | None = None
    hops: tuple[NextHop, ...] = ()

    @property
    def is_default(self) -> bool:
        """Whether it is the default route."""
        return self.destination.prefixlen == 0

    @property
    def is_connected(self) -> bool:
        """Whether the network is directly connected, by an interface's address."""
        return self.type == "unicast" and self.table == RT_TABLE_MAIN and all(hop.via is None for hop in self.hops)

    def __str__(self) -> str:
        words = [self.type] if self.type != "unicast" else []
        words.append("default" if self.is_default else str(self.destination))
        if len(self.hops) > 1:
            words += [f"nexthop {hop}" + (f" weight {hop.weight}" if hop.weight > 1 else "") for hop in self.hops]
        elif self.type == "unicast":
            words.append(str(NextHop(self.via, self.interface)))
        if self.source is not None and self.protocol != "kernel":
            words.append(f"src {self.source}")
        if self.table != RT_TABLE_MAIN:
            words.append(f"table {_TABLE_NAMES.get(self.table, self.table)}")
        return " ".join(words)


@dataclass(frozen=True)
class Rule:
    """A policy routing rule.

    Attributes:
        priority: the rule with the lowest number comes first.
        version: 4 or 6.
        source, destination: the packets' source and destination networks; None for any.
        incoming, outgoing: the name of the interface they arrive by, or are bound to; empty for any.
        mark: the packets' mark; 0 for any.
        action: ``"lookup"``, ``"blackhole"``, ``"unreachable"``, ``"prohibit"`` ...
        table: the number of the routing table; 0 for none.
    """

    priority: int
    version: int
    source: IPNetwork | None = None
    destination: IPNetwork | None = None
    incoming: str = ""
    outgoing: str = ""
    mark: int = 0
    action: str = "lookup"
    table: int = 0

    def __str__(self) -> str:
        words = [f"{self.priority}: from {self.source or 'all'}"]
        words += [f"to {self.destination}"] if self.destination is not None else []
        words += [f"iif {self.incoming}"] if self.incoming else []
        words += [f"oif {self.outgoing}"] if self.outgoing else []
        words += [f"fwmark {self.mark:#x}"] if self.mark else []
        words.append(f"lookup {_TABLE_NAMES.get(self.table, self.table)}" if self.action == "lookup" else self.action)
        return " ".join(words)


@dataclass(frozen=True)
class Neighbour:
    """An entry of the neighbour table: ARP for IPv4, neighbour discovery for IPv6.

    Attributes:
        address: the neighbour's IP address.
        mac: empty while unknown.
        interface: the name of the interface on which it is reached.
        state: ``"reachable"``, ``"stale"``, ``"failed"`` ..., as `ip neighbour` shows it, in lower case.
    """

    address: IPAddress
    mac: str
    interface: str
    state: str

    def __str__(self) -> str:
        return f"{self.address} {self.mac or 'unknown'} dev {self.interface} {self.state}"


def route_of(info: RouteInfo, names: Mapping[int, str]) -> Route:
    """A Route from the kernel's data and the interfaces' names by index."""
    hops = tuple(NextHop(hop.via, names.get(hop.interface, ""), hop.weight) for hop in info.hops)
    type_ = _TYPE_NAMES.get(info.type, str(info.type))
    if type_ not in ("unicast", *_OF_THE_KERNEL):  # the kernel gives IPv6 ones lo as interface
        hops = ()
    first = hops[0] if hops else NextHop(None, "")
    return Route(
        info.destination or _ZERO[info.family],
        first.via,
        first.interface,
        info.metric,
        info.table,
        _PROTOCOLS.get(info.protocol, str(info.protocol)),
        type_,
        _SCOPES.get(info.scope or 0, str(info.scope)),
        info.source,
        hops,
    )


def of_table(routes: Sequence[RouteInfo], names: Mapping[int, str], table: int) -> list[Route]:
    """The routes of a table; without local addresses, except in the local table."""
    routes_of_table = (route_of(info, names) for info in routes if info.table == table)
    return [route for route in routes_of_table if table == RT_TABLE_LOCAL or route.type not in _OF_THE_KERNEL]


def configured(routes: Sequence[RouteInfo], names: Mapping[int, str]) -> Iterator[Route]:
    """The routes to show: those of all tables except the local one, the main table first."""
    for table in sorted({info.table for info in routes} - {RT_TABLE_LOCAL}, key=lambda table: table != RT_TABLE_MAIN):
        yield from of_table(routes, names, table)


def rule_of(info: RuleInfo) -> Rule:
    """A Rule from the kernel's data."""
    version = 4 if info.family == socket.AF_INET else 6
    action = _ACTIONS.get(info.action, str(info.action))
    where = (info.source, info.destination, info.incoming, info.outgoing, info.mark)
    return Rule(info.priority or 0, version, *where, action, info.table)


def is_own(info: RuleInfo) -> bool:
    """Whether it is one of the rules that every new namespace has."""
    return (info.priority, info.table) in _OWN_RULES

"""Routes and neighbours as rtnetlink requests and values: pure, rtnetlink(7)."""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import TypeAlias

from pytest_netns.kernel.netlink import rtlinks, wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.wire import NLM_F_CREATE, NLM_F_EXCL, attribute, u32

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_GETNEIGH = 30
NUD_STATES = {
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    0x40: "noarp",
    0x80: "permanent",
}

_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst len, src len, tos, table, protocol, scope, type, flags
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_VIA, _RTA_TABLE = 1, 4, 5, 6, 7, 18, 15
_RT_TABLE_MAIN, _RTPROT_BOOT, _RTN_UNICAST, _RTN_LOCAL = 254, 3, 1, 2
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_NDA_DST, _NDA_LLADDR, _NDA_CACHEINFO = 1, 2, 3


@dataclass(frozen=True)
class RouteInfo:
    """A route of the main table; ``destination`` None is the default route."""

    family: int
    destination: IPNetwork | None
    via: IPAddress | None
    index: int
    metric: int


AGE_ERROR = 0.02  # seconds by which a neighbour may be older than it says: the kernel counts ticks, and tells 1/100 s


@dataclass(frozen=True)
class NeighbourInfo:
    """An entry of the neighbour table (ARP or NDP); ``age`` is the time in seconds since its state changed."""

    address: IPAddress
    mac: str
    index: int
    state: str
    age: float = 0

    @property
    def is_silent(self) -> bool:
        """Whether it has been asked for and has not answered."""
        return self.state in ("incomplete", "failed")


def add_route(
    destination: IPNetwork | None, *, family: int, via: IPAddress | None, index: int | None, metric: int | None
) -> Request:
    """A route of the main table; destination None is the default route."""
    length = 0 if destination is None else destination.prefixlen
    scope = _RT_SCOPE_LINK if via is None and family == socket.AF_INET else _RT_SCOPE_UNIVERSE
    body = _ROUTE.pack(family, length, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, scope, _RTN_UNICAST, 0)
    if destination is not None:
        body += attribute(_RTA_DST, destination.network_address.packed)
    if via is not None:
        body += attribute(_RTA_GATEWAY, via.packed)
    if index is not None:
        body += u32(_RTA_OIF, index)
    if metric is not None:
        body += u32(_RTA_PRIORITY, metric)
    words: tuple[object, ...] = ("add default route",) if destination is None else ("add route to", destination)
    if via is not None:
        words += ("via", via)
    return Request(words, RTM_NEWROUTE, body, NLM_F_CREATE | NLM_F_EXCL)


def dump_routes() -> Request:
    """All routes."""
    return Request(("list routes",), RTM_GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))


def parse_route(body: bytes) -> RouteInfo | None:
    """An RTM_NEWROUTE message; None where it is not a unicast route of the main table."""
    family, length, _, _, table, _, _, type_, _ = _ROUTE.unpack_from(body)
    if table != _RT_TABLE_MAIN or type_ != _RTN_UNICAST or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    attributes = wire.attributes(body, _ROUTE.size)
    raw = attributes.get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16))
    gateway = attributes.get(_RTA_GATEWAY) or attributes.get(_RTA_VIA, b"")[2:]
    return RouteInfo(
        family=family,
        destination=ipaddress.ip_network((raw, length)) if length else None,
        via=ipaddress.ip_address(gateway) if gateway else None,
        index=wire.read_u32(attributes.get(_RTA_OIF, bytes(4))),
        metric=wire.read_u32(attributes.get(_RTA_PRIORITY, bytes(4))),
    )


def find_route(address: IPAddress, index: int = 0) -> Request:
    """The route that packets to an address take, by the interface with an index or by any."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = _ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_DST, address.packed)
    if index:
        body += u32(_RTA_OIF, index)
    return Request(("find route to", address), RTM_GETROUTE, body)


def parse_is_local(body: bytes) -> bool:
    """Whether an RTM_NEWROUTE message leads to this namespace itself."""
    return bool(_ROUTE.unpack_from(body)[7] == _RTN_LOCAL)


def dump_neighbours() -> Request:
    """The neighbour tables of both families."""
    return Request(("list neighbours",), RTM_GETNEIGH, _NEIGHBOUR.pack(0, 0, 0, 0, 0))


def parse_neighbour(body: bytes) -> NeighbourInfo | None:
    """An RTM_NEWNEIGH message; None for what nobody means by "neighbour" (multicast, bridge forwarding entries)."""
    family, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
    attributes = wire.attributes(body, _NEIGHBOUR.size)
    if family not in (socket.AF_INET, socket.AF_INET6) or state == 0x40 or _NDA_DST not in attributes:
        return None
    mac = rtlinks.show_mac(attributes.get(_NDA_LLADDR, b""))
    # struct nda_cacheinfo: how long ago it was confirmed, used, updated, in 1/100 s
    updated = struct.unpack_from("=8xI", attributes.get(_NDA_CACHEINFO, bytes(16)))[0] / 100
    name = NUD_STATES.get(state, "none")
    return NeighbourInfo(ipaddress.ip_address(attributes[_NDA_DST]), mac, index, name, updated)

"""Routes as rtnetlink requests and values: pure, rtnetlink(7)."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pytest_netns.kernel.netlink import wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.wire import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, attribute, u32
from pytest_netns.values.addresses import IPAddress, IPNetwork

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RT_TABLE_MAIN, RT_TABLE_LOCAL = 254, 255
RTN_UNICAST, RTN_LOCAL = 1, 2

_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst len, src len, tos, table, protocol, scope, type, flags
_NEXT_HOP = struct.Struct("=HBBi")  # struct rtnexthop: length, flags, weight - 1, interface
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_MULTIPATH = 1, 4, 5, 6, 7, 9
_RTA_SRC, _RTA_CACHEINFO, _RTA_TABLE, _RTA_MARK, _RTA_VIA = 2, 12, 15, 16, 18
_RTPROT_BOOT = 3
_STATIC_PROTOCOLS = (
    0,
    3,
    4,
    16,
)  # unspec, boot, static, dhcp: routes that neither the kernel nor a routing daemon adds again
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RT_SCOPE_HOST, _RT_SCOPE_NOWHERE = 0, 253, 254, 255
_RTNH_F_ONLINK, _RTM_F_CLONED, _RTM_F_LOOKUP_TABLE = 0x4, 0x200, 0x1000


class Hop(NamedTuple):
    """One next hop of a route.

    Attributes:
        via: the gateway; None for a directly connected network.
        interface: its index; 0 for none.
        weight: its share of the traffic of a multipath route.
    """

    via: IPAddress | None = None
    interface: int = 0
    weight: int = 1


class RouteInfo(NamedTuple):
    """A route.

    Attributes:
        family: AF_INET or AF_INET6.
        destination: None for the default route.
        hops: its next hops; several for a multipath route, none for a blackhole and the like.
        metric: 0 if the kernel reports none.
        table, protocol, type: numbers of linux/rtnetlink.h.
        scope: likewise; None to derive it from the other fields.
        source: the preferred source address.
        onlink: whether the gateways are assumed to be on the interface's link, regardless of its addresses.
    """

    family: int
    destination: IPNetwork | None
    hops: tuple[Hop, ...] = ()
    metric: int = 0
    table: int = RT_TABLE_MAIN
    protocol: int = _RTPROT_BOOT
    type: int = RTN_UNICAST
    scope: int | None = None
    source: IPAddress | None = None
    onlink: bool = False


# -- encoding --------------------------------------------------------------------------------------


def add_route(route: RouteInfo) -> Request:
    """Add a route; an existing one with the same destination, table and metric is an error."""
    return Request(_description("add", route), RTM_NEWROUTE, _body(route), NLM_F_CREATE | NLM_F_EXCL)


def replace_route(route: RouteInfo) -> Request:
    """Add a route, or replace the one with the same destination, table and metric."""
    return Request(_description("replace", route), RTM_NEWROUTE, _body(route), NLM_F_CREATE | NLM_F_REPLACE)


def remove_route(route: RouteInfo) -> Request:
    """Remove a route; fields left out (protocol and type 0, no hops, metric 0) match any value."""
    return Request(_description("remove", route), RTM_DELROUTE, _body(route, scope=_RT_SCOPE_NOWHERE))


def _description(verb: str, route: RouteInfo) -> tuple[object, ...]:
    description: tuple[object, ...] = (
        (verb, "default route") if route.destination is None else (verb, "route to", route.destination)
    )
    for hop in route.hops:
        if hop.via is not None:
            description += ("via", hop.via)
    return description if route.source is None else (*description, "src", route.source)


def _body(route: RouteInfo, scope: int | None = None) -> bytes:
    destination, hops = route.destination, route.hops
    if scope is None:
        scope = _scope(route)
    length = 0 if destination is None else destination.prefixlen
    table = route.table if route.table < 256 else 0
    flags = _RTNH_F_ONLINK if route.onlink else 0
    body = _ROUTE.pack(route.family, length, 0, 0, table, route.protocol, scope, route.type, flags)
    if destination is not None:
        body += attribute(_RTA_DST, destination.network_address.packed)
    if len(hops) == 1:
        body += _gateway(route.family, hops[0].via)
        if hops[0].interface:
            body += u32(_RTA_OIF, hops[0].interface)
    elif hops:
        body += attribute(_RTA_MULTIPATH, b"".join(_next_hop(route, hop) for hop in hops))
    if route.metric:
        body += u32(_RTA_PRIORITY, route.metric)
    if route.source is not None:
        body += attribute(_RTA_PREFSRC, route.source.packed)
    return body if route.table < 256 else body + u32(_RTA_TABLE, route.table)


def _scope(route: RouteInfo) -> int:
    if route.scope is not None:
        return route.scope
    if route.type == RTN_LOCAL:
        return _RT_SCOPE_HOST
    if route.type != RTN_UNICAST or route.family != socket.AF_INET:
        return _RT_SCOPE_UNIVERSE
    for hop in route.hops:
        if hop.via is not None:
            return _RT_SCOPE_UNIVERSE
    return _RT_SCOPE_LINK


def _gateway(family: int, via: IPAddress | None) -> bytes:
    if via is None:
        return b""
    packed = via.packed
    if family == socket.AF_INET and len(packed) > 4:  # RFC 5549
        return attribute(_RTA_VIA, struct.pack("=H", socket.AF_INET6) + packed)
    return attribute(_RTA_GATEWAY, packed)


def _next_hop(route: RouteInfo, hop: Hop) -> bytes:
    gateway = _gateway(route.family, hop.via)
    flags = _RTNH_F_ONLINK if route.onlink else 0
    return _NEXT_HOP.pack(_NEXT_HOP.size + len(gateway), flags, hop.weight - 1, hop.interface) + gateway


# -- decoding --------------------------------------------------------------------------------------


def dump_routes() -> Request:
    """All routes."""
    return Request(("list routes",), RTM_GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))


def find_route(address: IPAddress, index: int = 0, *, source: IPAddress | None = None, mark: int = 0) -> Request:
    """Look up the route to an address, through one interface or any."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    source_length = 0 if source is None else source.max_prefixlen
    body = _ROUTE.pack(family, address.max_prefixlen, source_length, 0, 0, 0, 0, 0, _RTM_F_LOOKUP_TABLE)
    body += attribute(_RTA_DST, address.packed)
    if source is not None:
        body += attribute(_RTA_SRC, source.packed)
    if index:
        body += u32(_RTA_OIF, index)
    if mark:
        body += u32(_RTA_MARK, mark)
    return Request(("find route to", address), RTM_GETROUTE, body)


def parse_is_local(body: bytes) -> bool:
    """Whether an RTM_NEWROUTE message is a local route."""
    return bool(_ROUTE.unpack_from(body)[7] == RTN_LOCAL)


def parse_route(body: bytes) -> RouteInfo | None:
    """Parse an RTM_NEWROUTE message; None for cached routes, such as a path's MTU."""
    family, flags = body[0], _ROUTE.unpack_from(body)[-1]
    return None if flags & _RTM_F_CLONED or family not in (socket.AF_INET, socket.AF_INET6) else parse_looked_up(body)


def parse_looked_up(body: bytes) -> RouteInfo:
    """Parse the answer to `find_route`."""
    family, length, _, _, table, protocol, scope, type_, flags = _ROUTE.unpack_from(body)
    attributes = wire.attributes(body, _ROUTE.size)
    hops = tuple(_hops(attributes.get(_RTA_MULTIPATH, b"")))
    if not hops and _RTA_OIF in attributes:
        hops = (Hop(_via(attributes), wire.read_u32(attributes[_RTA_OIF])),)
    source = attributes.get(_RTA_PREFSRC)
    return RouteInfo(
        family=family,
        destination=_destination(family, length, attributes),
        hops=hops,
        metric=wire.read_u32(attributes.get(_RTA_PRIORITY, bytes(4))),
        table=wire.read_u32(attributes[_RTA_TABLE]) if _RTA_TABLE in attributes else table,
        protocol=protocol,
        type=type_,
        scope=scope,
        source=None if source is None else ipaddress.ip_address(source),
        onlink=bool(flags & _RTNH_F_ONLINK),
    )


def _destination(family: int, length: int, attributes: Mapping[int, bytes]) -> IPNetwork | None:
    raw = attributes.get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16))
    return ipaddress.ip_network((raw, length)) if length else None


def _via(attributes: Mapping[int, bytes]) -> IPAddress | None:
    gateway = attributes.get(_RTA_GATEWAY) or attributes.get(_RTA_VIA, b"")[2:]
    return ipaddress.ip_address(gateway) if gateway else None


def _hops(data: bytes) -> Iterator[Hop]:
    offset = 0
    while offset + _NEXT_HOP.size <= len(data):
        length, _, weight, index = _NEXT_HOP.unpack_from(data, offset)
        if length < _NEXT_HOP.size:
            return
        yield Hop(_via(wire.attributes(data[: offset + length], offset + _NEXT_HOP.size)), index, weight + 1)
        offset += length + 3 & ~3


# -- replaying -------------------------------------------------------------------------------------


def is_static_by(route: RouteInfo, index: int) -> bool:
    """Whether a route was configured, rather than added by the kernel or a routing daemon, and uses an interface."""
    static = route.table != RT_TABLE_LOCAL and route.protocol in _STATIC_PROTOCOLS
    return static and any(hop.interface == index for hop in route.hops)


def replay(body: bytes) -> Request:
    """Turn a notification about a route into a request that adds the same route."""
    attributes = wire.attributes(body, _ROUTE.size)
    attributes.pop(_RTA_CACHEINFO, None)
    *start, flags = _ROUTE.unpack_from(body)
    packed = b"".join(attribute(name, value) for name, value in attributes.items())
    description = ("add route to", _destination(start[0], start[1], attributes) or "default")
    return Request(
        description, RTM_NEWROUTE, _ROUTE.pack(*start, flags & _RTNH_F_ONLINK) + packed, NLM_F_CREATE | NLM_F_EXCL
    )

"""What keeps packets from their way and is easily overlooked, in rtnetlink's messages: words for a report, pure."""

from __future__ import annotations

import ipaddress
import socket
import struct

from pytest_netns.kernel.netlink import wire
from pytest_netns.kernel.netlink.request import Request

RTM_GETRULE = 34
_IFF_NOARP = 0x80
_IFLA_QDISC, _IFLA_LINKINFO, _IFLA_INFO_SLAVE_DATA = 6, 18, 5
_IFLA_BRPORT_ISOLATED = 33
# What the kernel gives interfaces by itself, and what does not hold packets up.
_USUAL_QDISCS = {"", "noop", "noqueue", "mq", "pfifo_fast", "fq_codel", "fq"}
_IFINFO = struct.Struct("=BxHiII")  # family, device type, index, flags, change mask
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst len, src len, tos, table, protocol, scope, type, flags
_RULE = struct.Struct("=BBBBBxxBI")  # family, dst len, src len, tos, table, action, flags
_ACTIONS = {6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}  # RTN_ and FR_ACT_
_RT_TABLE_MAIN = 254
_USUAL_RULES = {0, 32766, 32767}  # priorities: local, main, default
_ETHERNET = 1  # ARPHRD_ETHER
_RTA_DST, _FRA_SRC, _FRA_PRIORITY, _FRA_TABLE, _FRA_FWMARK, _FRA_IIFNAME = 1, 2, 6, 15, 10, 3


def link_words(body: bytes) -> tuple[str, ...]:
    """Of an RTM_NEWLINK message: traffic control, no ARP, a bridge's port that is isolated from others."""
    _, hardware, _, flags, _ = _IFINFO.unpack_from(body)
    attributes = wire.attributes(body, _IFINFO.size)
    words = []
    qdisc = wire.read_text(attributes.get(_IFLA_QDISC, b""))
    if qdisc not in _USUAL_QDISCS:
        words.append(f"qdisc {qdisc}")
    if flags & _IFF_NOARP and hardware == _ETHERNET:
        words.append("ARP off")
    info = wire.attributes(attributes.get(_IFLA_LINKINFO, b""))
    port = wire.attributes(info.get(_IFLA_INFO_SLAVE_DATA, b""))
    if port.get(_IFLA_BRPORT_ISOLATED, b"\0")[0]:
        words.append("isolated")
    return tuple(words)


def refusing_route(body: bytes) -> str:
    """Of an RTM_NEWROUTE message: a route of the main table that leads nowhere, as ip-route(8) shows it; or nothing."""
    family, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
    if table != _RT_TABLE_MAIN or kind not in _ACTIONS or family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    raw = wire.attributes(body, _ROUTE.size).get(_RTA_DST)
    return f"{_ACTIONS[kind]} {'default' if raw is None else ipaddress.ip_network((raw, length))}"


def dump_rules() -> Request:
    """All routing rules."""
    return Request(("list routing rules",), RTM_GETRULE, _RULE.pack(0, 0, 0, 0, 0, 0, 0))


def parse_rule(body: bytes) -> str | None:
    """Of an RTM_NEWRULE message: a rule, much as ip-rule(8) shows it; None for those every namespace has."""
    family, to_length, from_length, _, table, action, _ = _RULE.unpack_from(body)
    attributes = wire.attributes(body, _RULE.size)
    priority = wire.read_u32(attributes.get(_FRA_PRIORITY, bytes(4)))
    if family not in (socket.AF_INET, socket.AF_INET6) or priority in _USUAL_RULES:
        return None
    words = [f"{priority}:"]
    for name, kind, length in (("from", _FRA_SRC, from_length), ("to", _RTA_DST, to_length)):
        raw = attributes.get(kind)
        words += (
            [name, "all" if raw is None else str(ipaddress.ip_network((raw, length)))]
            if raw or kind == _FRA_SRC
            else []
        )
    if _FRA_IIFNAME in attributes:
        words += ["iif", wire.read_text(attributes[_FRA_IIFNAME])]
    if _FRA_FWMARK in attributes:
        words += ["fwmark", f"{wire.read_u32(attributes[_FRA_FWMARK]):#x}"]
    number = wire.read_u32(attributes.get(_FRA_TABLE, struct.pack("=I", table)))
    words += (
        [_ACTIONS[action]] if action in _ACTIONS else ["lookup", "main" if number == _RT_TABLE_MAIN else str(number)]
    )
    return " ".join(words)

"""Policy routing rules, as rtnetlink requests and values, rtnetlink(7) and ip-rule(8)."""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass

from pytest_netns.kernel.netlink import messages, wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.wire import NLM_F_CREATE, NLM_F_EXCL
from pytest_netns.values.addresses import IPNetwork

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
FR_ACT_TO_TABLE = 1

_RULE = struct.Struct("=BBBBBBBBI")  # family, dst len, src len, tos, table, two unused, action, flags
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK, _FRA_TABLE, _FRA_OIFNAME = 1, 2, 3, 6, 10, 15, 17


@dataclass(frozen=True)
class RuleInfo:
    """A policy routing rule: its selectors, and the table to look up.

    Attributes:
        family: AF_INET or AF_INET6.
        priority: the lowest is matched first; None for the kernel's choice.
        table: 0 for none.
        source, destination: networks; None for any.
        incoming, outgoing: names of the input and output interface; empty for any.
        mark: the packet mark; 0 for any.
        action: FR_ACT_ of linux/fib_rules.h.
    """

    family: int
    priority: int | None = None
    table: int = 0
    source: IPNetwork | None = None
    destination: IPNetwork | None = None
    incoming: str = ""
    outgoing: str = ""
    mark: int = 0
    action: int = FR_ACT_TO_TABLE


def add_rule(rule: RuleInfo) -> Request:
    """Add a rule."""
    return Request(("add rule",), RTM_NEWRULE, _body(rule), NLM_F_CREATE | NLM_F_EXCL)


def remove_rule(rule: RuleInfo) -> Request:
    """Remove the first rule that matches this one."""
    return Request(("remove rule",), RTM_DELRULE, _body(rule))


def dump_rules() -> Request:
    """All rules of both families."""
    return Request(("list rules",), RTM_GETRULE, _RULE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))


def parse_rule(body: bytes) -> RuleInfo | None:
    """Parse an RTM_NEWRULE message; None for families other than IPv4 and IPv6."""
    family, destination_length, source_length, _, table, _, _, action, _ = _RULE.unpack_from(body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    attributes = wire.attributes(body, _RULE.size)

    def network(name: int, length: int) -> IPNetwork | None:
        return ipaddress.ip_network((attributes[name], length)) if name in attributes else None

    return RuleInfo(
        family=family,
        priority=wire.read_u32(attributes.get(_FRA_PRIORITY, bytes(4))),
        table=wire.read_u32(attributes[_FRA_TABLE]) if _FRA_TABLE in attributes else table,
        source=network(_FRA_SRC, source_length),
        destination=network(_FRA_DST, destination_length),
        incoming=wire.read_text(attributes.get(_FRA_IIFNAME, b"")),
        outgoing=wire.read_text(attributes.get(_FRA_OIFNAME, b"")),
        mark=wire.read_u32(attributes.get(_FRA_FWMARK, bytes(4))),
        action=action,
    )


def _body(rule: RuleInfo) -> bytes:
    fields = {"family": rule.family, "action": rule.action}
    attributes: dict[str, object] = {}
    for name, network in (("src", rule.source), ("dst", rule.destination)):
        if network is not None:
            fields[f"{name}_len"] = network.prefixlen
            attributes[name] = str(network.network_address)
    if rule.priority is not None:
        attributes["priority"] = rule.priority
    optional = {"iifname": rule.incoming, "oifname": rule.outgoing, "fwmark": rule.mark, "table": rule.table}
    return messages.body("rule", fields, attributes | {name: value for name, value in optional.items() if value})

"""Read the kernel's nft rules and their counters, identified by comment: nf_tables over netlink.

The nft program would read the whole ruleset for each of these queries; netlink reads only what is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_netns.kernel.netlink import nfnetlink, wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NetlinkSocket

_NFT_MSG_GETRULE, _NFT_MSG_GETGEN = 7, 16
# linux/netfilter/nf_tables.h
_NFTA_GEN_ID = 1
_NFTA_RULE_TABLE, _NFTA_RULE_CHAIN, _NFTA_RULE_HANDLE = 1, 2, 3
_NFTA_RULE_EXPRESSIONS, _NFTA_RULE_USERDATA = 4, 7
_NFTA_EXPR_NAME, _NFTA_EXPR_DATA = 1, 2
_NFTA_COUNTER_BYTES, _NFTA_COUNTER_PACKETS = 1, 2
_UDATA_COMMENT = 0  # libnftnl's: type and length in a byte each
_FIRST_GENERATION = 1


@dataclass(frozen=True)
class KernelRule:
    """A rule in the kernel's ruleset.

    Attributes:
        table, chain: the table and chain it is in.
        handle: its number in the table; never reused for another rule.
        comment: empty for none.
        packets, bytes: its counter; 0 if it has none.
    """

    table: str
    chain: str
    handle: int
    comment: str
    packets: int
    bytes: int


def generation(netlink: NetlinkSocket) -> int:
    """Return a number that grows with every change of the namespace's ruleset; ten times faster than reading the ruleset."""
    request = Request(
        ("read the generation of the nft ruleset",), nfnetlink.nf_tables(_NFT_MSG_GETGEN), nfnetlink.header()
    )
    return netlink.get(request, _parse_generation)


def has_rules(netlink: NetlinkSocket) -> bool:
    """Whether the namespace has ever had nft rules."""
    return generation(netlink) > _FIRST_GENERATION


def rules(netlink: NetlinkSocket, table: str) -> list[KernelRule]:
    """Return the rules of a table of the family inet, in order; empty if there is no such table."""
    body = nfnetlink.header(nfnetlink.NFPROTO_INET) + wire.text(_NFTA_RULE_TABLE, table)
    return netlink.dump(Request(("list nft rules of table", table), nfnetlink.nf_tables(_NFT_MSG_GETRULE), body), parse)


def counted(netlink: NetlinkSocket, rule: KernelRule) -> KernelRule:
    """Return the same rule with its current counters.

    Raises:
        KernelError: ENOENT if the rule no longer exists.
    """
    body = (
        nfnetlink.header(nfnetlink.NFPROTO_INET)
        + wire.text(_NFTA_RULE_TABLE, rule.table)
        + wire.text(_NFTA_RULE_CHAIN, rule.chain)
    )
    body += wire.attribute(_NFTA_RULE_HANDLE, rule.handle.to_bytes(8, "big"))
    return netlink.get(Request(("read nft rule", rule.comment), nfnetlink.nf_tables(_NFT_MSG_GETRULE), body), parse)


def parse(body: bytes) -> KernelRule:
    """Parse an NFT_MSG_NEWRULE message."""
    attributes = wire.attributes(body, nfnetlink.HEADER_SIZE)
    packets, octets = _counts(attributes.get(_NFTA_RULE_EXPRESSIONS, b""))
    return KernelRule(
        wire.read_text(attributes[_NFTA_RULE_TABLE]),
        wire.read_text(attributes[_NFTA_RULE_CHAIN]),
        int.from_bytes(attributes[_NFTA_RULE_HANDLE], "big"),
        comment(attributes.get(_NFTA_RULE_USERDATA, b"")),
        packets,
        octets,
    )


def _counts(expressions: bytes) -> tuple[int, int]:
    """The packets and bytes of a rule's counters."""
    packets = octets = 0
    for element in items(expressions):
        counted_packets, counted_octets = counts_of(element)
        packets, octets = packets + counted_packets, octets + counted_octets
    return packets, octets


def counts_of(data: bytes) -> tuple[int, int]:
    """Packets and bytes of a counter expression; 0 for other expressions."""
    expression = wire.attributes(data)
    if wire.read_text(expression.get(_NFTA_EXPR_NAME, b"")) != "counter":
        return 0, 0
    counter = wire.attributes(expression[_NFTA_EXPR_DATA])
    return (
        int.from_bytes(counter[_NFTA_COUNTER_PACKETS], "big"),
        int.from_bytes(counter[_NFTA_COUNTER_BYTES], "big"),
    )


def items(data: bytes) -> Iterator[bytes]:
    """The elements of a list of attributes, all of one type."""
    offset = 0
    while offset + 4 <= len(data):
        (length,) = struct.unpack_from("=H", data, offset)
        if length < 4:
            return
        yield data[offset + 4 : offset + length]
        offset += length + 3 & ~3


def comment(userdata: bytes) -> str:
    """The comment in the user data of a rule or an element of a set; empty for none."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, length = userdata[offset : offset + 2]
        if kind == _UDATA_COMMENT:
            return wire.read_text(userdata[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return ""


def _parse_generation(body: bytes) -> int:
    return int.from_bytes(wire.attributes(body, nfnetlink.HEADER_SIZE)[_NFTA_GEN_ID], "big")

"""nfnetlink: the common parts of messages of nf_tables, connection tracking and NFLOG; pure."""

from __future__ import annotations

import struct

from pytest_netns.kernel.netlink import wire
from pytest_netns.kernel.netlink.request import Request

# linux/netfilter/nfnetlink.h and nf_tables.h
_CTNETLINK, _ULOG, _NFTABLES = 1, 4, 10
NFPROTO_UNSPEC, NFPROTO_INET, NFPROTO_NETDEV = 0, 1, 5
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_LIST_ELEMENT, _EXPRESSION_NAME, _EXPRESSION_DATA = 1, 1, 2
_HEADER = struct.Struct(">BBH")  # struct nfgenmsg: family, version, resource
HEADER_SIZE = _HEADER.size


def ctnetlink(message: int) -> int:
    """The type of a message of connection tracking."""
    return _CTNETLINK << 8 | message


def ulog(message: int) -> int:
    """The type of a message of NFLOG."""
    return _ULOG << 8 | message


def nf_tables(message: int) -> int:
    """The type of a message of nf_tables."""
    return _NFTABLES << 8 | message


def header(family: int = NFPROTO_UNSPEC, resource: int = 0) -> bytes:
    """What every body begins with."""
    return _HEADER.pack(family, 0, resource)


# What stands around the messages of nf_tables that change something: all of them take effect, or none.
BEGIN = Request(("begin a change of nft rules",), _BATCH_BEGIN, header(resource=_NFTABLES))
END = Request(("end a change of nft rules",), _BATCH_END, header(resource=_NFTABLES))


def expression(name: str, *attributes: bytes) -> bytes:
    """One expression of a rule of nf_tables."""
    return wire.nested(_LIST_ELEMENT, wire.text(_EXPRESSION_NAME, name), wire.nested(_EXPRESSION_DATA, *attributes))


def be32(type_: int, value: int) -> bytes:
    """An attribute that holds a 32-bit number in network order."""
    return wire.attribute(type_, value.to_bytes(4, "big"))


def comment(text: str) -> bytes:
    """User data with a comment, as nft writes it: a type of 0, the length, the text."""
    encoded = text.encode() + b"\0"
    return bytes((0, len(encoded))) + encoded

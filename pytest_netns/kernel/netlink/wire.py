"""Netlink's wire format: messages and attributes as bytes; pure.

Only the hot path: what every test needs is encoded here, in a few µs. Everything else uses pyroute2's message classes (`messages`), whose
import takes 50 ms. pyroute2 is the oracle of the tests.
The layout is that of netlink(7) and rtnetlink(7).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_DUMP_INTR = 0x1, 0x2, 0x4, 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLMSGERR_ATTR_MSG = 1
NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_ATTRIBUTE_U32 = struct.Struct("=HHI")
_ACKNOWLEDGEMENT = struct.Struct("=IHHIIi")  # the header, and an error number
_U32 = struct.Struct("=I")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")  # by length modulo 4


class Message(NamedTuple):
    """One received message: header fields and what follows the header."""

    type: int
    flags: int
    sequence: int
    body: bytes


def message(type_: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A whole message, padded to four bytes."""
    length = len(body)
    return _HEADER.pack(16 + length, type_, flags | NLM_F_REQUEST, sequence, 0) + body + _PADDING[length & 3]


def acknowledges(data: bytes, sequence: int) -> bool:
    """Whether a received datagram is just the acknowledgement of a message, as it almost always is."""
    length, type_, _, answered, _, code = _ACKNOWLEDGEMENT.unpack_from(data)
    return bool(type_ == NLMSG_ERROR and code == 0 and answered == sequence and length == len(data))


def body_of(data: bytes, sequence: int) -> bytes | None:
    """The body of a received datagram with a single reply message, as almost always, and no error."""
    length, type_, _, answered, _ = _HEADER.unpack_from(data)
    return data[_HEADER.size :] if answered == sequence and length == len(data) and type_ != NLMSG_ERROR else None


def messages(data: bytes) -> Iterator[Message]:
    """The messages in one received datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, type_, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield Message(type_, flags, sequence, data[offset + _HEADER.size : offset + length])
        offset += length + 3 & ~3


def attribute(type_: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = len(payload)
    return _ATTRIBUTE.pack(4 + length, type_) + payload + _PADDING[length & 3]


def nested(type_: int, *attributes_: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(type_ | NLA_F_NESTED, b"".join(attributes_))


def u32(type_: int, value: int) -> bytes:
    """An attribute that holds a 32-bit number in host order."""
    return _ATTRIBUTE_U32.pack(8, type_, value)


def text(type_: int, value: str) -> bytes:
    """An attribute that holds a NUL-terminated string."""
    return attribute(type_, value.encode() + b"\0")


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from an offset on, by type; of several with the same type, the last."""
    values: dict[int, bytes] = {}
    while offset + _ATTRIBUTE.size <= len(data):
        length, type_ = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        values[type_ & _NLA_TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += length + 3 & ~3
    return values


def read_text(payload: bytes) -> str:
    """The string in an attribute."""
    return payload.rstrip(b"\0").decode(errors="replace")


def read_u32(payload: bytes) -> int:
    """The 32-bit number in an attribute, host order."""
    return int(_U32.unpack_from(payload)[0])


def read_error(body: bytes, flags: int) -> tuple[int, str]:
    """The error number (0 for an acknowledgement) of an NLMSG_ERROR, and the kernel's message."""
    (code,) = struct.unpack_from("=i", body)
    if not flags & NLM_F_ACK_TLVS:
        return -code, ""
    (request_length,) = _U32.unpack_from(body, 4)
    # The whole request follows unless capped to its header (netlink(7), NETLINK_CAP_ACK).
    offset = 4 + (_HEADER.size if flags & NLM_F_CAPPED else request_length + 3 & ~3)
    return -code, read_text(attributes(body, offset).get(NLMSGERR_ATTR_MSG, b""))

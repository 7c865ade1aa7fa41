"""Packets as a pcapng file (draft-ietf-opsawg-pcapng), which Wireshark, tshark and tcpdump read; pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from pytest_netns.packets.dissect import Packet

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_LINKTYPE_ETHERNET, _LINKTYPE_RAW = 1, 101
_OPT_COMMENT, _IF_NAME, _IF_TSRESOL, _EPB_FLAGS = 1, 2, 9, 2
_NANOSECONDS = 9  # negative power of ten
_INBOUND, _OUTBOUND = 1, 2


def write(packets: Iterable[Packet], comment: str = "") -> bytes:
    """Encode a whole file; its interfaces are named ``NAMESPACE/INTERFACE``.

    Args:
        packets: in order of time.
        comment: stored in the file's header.
    """
    return b"".join(blocks(packets, comment))


def blocks(packets: Iterable[Packet], comment: str = "") -> Iterator[bytes]:
    """Encode a file block by block."""
    numbers: dict[tuple[str, str, bool], int] = {}
    yield _section(comment)
    for packet in packets:
        place = (packet.namespace, packet.interface, packet.ethernet)
        number = numbers.get(place)
        if number is None:
            number = numbers[place] = len(numbers)
            name = f"{packet.namespace}/{packet.interface}"
            yield _interface(name, _LINKTYPE_ETHERNET if packet.ethernet else _LINKTYPE_RAW)
        yield _packet(packet, number)


def _section(comment: str) -> bytes:
    body = struct.pack("=IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1)
    return _block(_SECTION, body, [(_OPT_COMMENT, comment.encode(errors="backslashreplace"))] if comment else [])


def _interface(name: str, link_type: int) -> bytes:
    options = [(_IF_NAME, name.encode(errors="backslashreplace")), (_IF_TSRESOL, bytes([_NANOSECONDS]))]
    return _block(_INTERFACE, struct.pack("=HHI", link_type, 0, 0), options)


def _packet(packet: Packet, interface: int) -> bytes:
    moment = round(packet.time * 1_000_000) * 1000
    size = len(packet.data)
    length = 28 + size + (-size % 4) + len(_END_SENT) + 4
    head = _PACKET_HEAD.pack(_PACKET, length, interface, moment >> 32, moment & 0xFFFFFFFF, size, size)
    end = _END_SENT if packet.sent else _END_RECEIVED
    return b"".join((head, packet.data, _PADDING[size % 4], end, _LENGTH.pack(length)))


def _block(kind: int, body: bytes, options: list[tuple[int, bytes]]) -> bytes:
    body += b"".join(_options(options))
    length = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + length + body + length


def _options(options: list[tuple[int, bytes]]) -> Iterator[bytes]:
    for code, value in options:
        yield struct.pack("=HH", code, len(value)) + _padded(value)
    if options:
        yield struct.pack("=HH", 0, 0)


def _padded(data: bytes) -> bytes:
    return data + _PADDING[len(data) % 4]


_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")  # by length modulo 4
_LENGTH = struct.Struct("=I")
_PACKET_HEAD = struct.Struct("=IIIIIII")  # of an enhanced packet block: type, length, interface, time, sizes
_END_SENT = b"".join(_options([(_EPB_FLAGS, struct.pack("=I", _OUTBOUND))]))
_END_RECEIVED = b"".join(_options([(_EPB_FLAGS, struct.pack("=I", _INBOUND))]))

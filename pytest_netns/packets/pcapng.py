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
    """A whole file; its interfaces are named ``NAMESPACE/INTERFACE``.

    Args:
        packets: in order of time.
        comment: kept in the file's header.
    """
    numbers: dict[str, int] = {}
    blocks = [_section(comment)]
    for packet in packets:
        name = f"{packet.namespace}/{packet.interface}"
        if name not in numbers:
            numbers[name] = len(numbers)
            blocks.append(_interface(name, _LINKTYPE_ETHERNET if packet.ethernet else _LINKTYPE_RAW))
        blocks.append(_packet(packet, numbers[name]))
    return b"".join(blocks)


def _section(comment: str) -> bytes:
    body = struct.pack("=IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1)
    return _block(_SECTION, body, [(_OPT_COMMENT, comment.encode())] if comment else [])


def _interface(name: str, link_type: int) -> bytes:
    options = [(_IF_NAME, name.encode()), (_IF_TSRESOL, bytes([_NANOSECONDS]))]
    return _block(_INTERFACE, struct.pack("=HHI", link_type, 0, 0), options)


def _packet(packet: Packet, interface: int) -> bytes:
    moment = round(packet.time * 1_000_000) * 1000
    head = struct.pack("=IIIII", interface, moment >> 32, moment & 0xFFFFFFFF, len(packet.data), len(packet.data))
    flags = struct.pack("=I", _OUTBOUND if packet.sent else _INBOUND)
    return _block(_PACKET, head + _padded(packet.data), [(_EPB_FLAGS, flags)])


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
    return data + b"\0" * (-len(data) % 4)

"""Decoded packets: their lines, and their attributes."""

from __future__ import annotations

import struct

import pytest

from pytest_netns.kernel.spaces.capturing import read_timespec
from pytest_netns.packets.dissect import Packet, digest

MACS = bytes.fromhex("020000000002 020000000001".replace(" ", ""))


def _packet(kind: int, body: bytes, *, interface: str = "eth0", moment: float = 0.0) -> Packet:
    return Packet(moment, "red", interface, True, MACS + struct.pack("!H", kind) + body)


def _ipv4(protocol: int, body: bytes, fragment: int = 0) -> bytes:
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, fragment, 64, protocol, 0, b"\n\0\0\1", b"\n\0\0\2")
    return head + body


def _ipv6(protocol: int, body: bytes) -> bytes:
    return (
        struct.pack(
            "!IHBB16s16s", 6 << 28, len(body), protocol, 64, b"\xfd" + bytes(14) + b"\1", b"\xfd" + bytes(14) + b"\2"
        )
        + body
    )


TCP = struct.pack("!HHIIBBHHH", 4000, 80, 1, 0, 5 << 4, 0x12, 100, 0, 0)
UDP = struct.pack("!HHHH", 4000, 53, 13, 0) + b"hello"
ARP = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, MACS[6:], b"\n\0\0\1", bytes(6), b"\n\0\0\2")
HOP_BY_HOP = bytes([17, 0, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("packet", "line"),
    [
        (_packet(0x800, _ipv4(6, TCP + b"GET /")), "tcp 10.0.0.1:4000 > 10.0.0.2:80 [SA] 5 B"),
        (_packet(0x800, _ipv4(6, TCP) + b"\0" * 6), "tcp 10.0.0.1:4000 > 10.0.0.2:80 [SA]"),
        (_packet(0x800, _ipv4(17, UDP)), "udp 10.0.0.1:4000 > 10.0.0.2:53 5 B"),
        (_packet(0x86DD, _ipv6(17, UDP)), "udp [fd00::1]:4000 > [fd00::2]:53 5 B"),
        (_packet(0x86DD, _ipv6(0, HOP_BY_HOP + UDP)), "udp [fd00::1]:4000 > [fd00::2]:53 5 B"),
        (_packet(0x800, _ipv4(1, b"\x03\x01" + bytes(6))), "icmp 10.0.0.1 > 10.0.0.2 host unreachable"),
        (_packet(0x86DD, _ipv6(58, b"\x80" + bytes(7))), "icmpv6 fd00::1 > fd00::2 echo request"),
        (_packet(0x806, ARP), "arp who has 10.0.0.2? tell 10.0.0.1"),
        (_packet(0x800, _ipv4(17, b"abcdefgh", fragment=185)), "udp 10.0.0.1 > 10.0.0.2 fragment at 1480"),
        (_packet(0x800, _ipv4(47, b"abcd")), "gre 10.0.0.1 > 10.0.0.2 4 B"),
        (_packet(0x8100, b"\x20\x2a\x08\x00" + _ipv4(17, UDP)), "vlan 42 udp 10.0.0.1:4000 > 10.0.0.2:53 5 B"),
        (_packet(0x88A8, b"\0\x07\x81\0\0\x2a\x08\x06" + ARP), "vlan 7 vlan 42 arp who has 10.0.0.2? tell 10.0.0.1"),
        (_packet(0x8100, b"\0\x2a\x08"), "malformed"),
        (_packet(0x88CC, b"abcd"), "ethernet type 0x88cc, 18 B"),
        (_packet(0x800, _ipv4(6, TCP)[:30]), "malformed"),
        (Packet(0, "red", "eth0", True, b""), "malformed"),
    ],
)
def test_line(packet: Packet, line: str) -> None:
    """Each packet is a line that names the protocol, both ends, and the important values; padding is not payload."""
    assert str(packet) == line


def test_digest_follows_a_frame() -> None:
    """A frame seen on several interfaces in turn is one line; a retransmitted one is another; the last lines are kept."""
    frame = _ipv4(17, UDP)
    seen = [_packet(0x800, frame, interface=name, moment=n / 10) for n, name in enumerate(["a", "b", "a"])]
    assert digest(seen, 9) == [
        "  0.0000 s  udp 10.0.0.1:4000 > 10.0.0.2:53 5 B  (red/a → red/b)",
        "  0.2000 s  udp 10.0.0.1:4000 > 10.0.0.2:53 5 B  (red/a)",
    ]
    assert digest(seen, 1)[0] == "... 1 packets before"


def test_digest_leaves_out_chatter() -> None:
    """The kernel's own messages to multicast groups would hide the test's packets."""
    assert digest([_packet(0x86DD, _ipv6(58, b"\x85" + bytes(7))), _packet(0x800, _ipv4(2, bytes(8)))], 9) == []


@pytest.mark.parametrize("layout", ["=qq", "=ii"], ids=["64-bit", "32-bit"])
def test_time_stamps_of_the_kernel(layout: str) -> None:
    """A timespec is read in the size that this machine's kernel uses for its programs."""
    assert read_timespec(struct.pack(layout, 1_700_000_000, 5)) == 1_700_000_000_000_000_005

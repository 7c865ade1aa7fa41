"""Packets as values, with a one-line summary: Ethernet, ARP, IPv4, IPv6, TCP, UDP, ICMP; pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

_PROTOCOLS = {
    1: "icmp",
    2: "igmp",
    6: "tcp",
    17: "udp",
    58: "icmpv6",
    4: "ipip",
    41: "ipv6",
    47: "gre",
    50: "esp",
    132: "sctp",
}
_ICMP = {0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded"}
_UNREACHABLE = {0: "network", 1: "host", 2: "protocol", 3: "port", 4: "too big"}
_ICMPV6 = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    128: "echo request",
    129: "echo reply",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
    143: "multicast report",
}
_CHATTER = ("multicast report", "router solicitation")
_TCP_FLAGS = "FSRPAUEC"  # from the lowest bit: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR
_VLAN_TYPES = (0x8100, 0x88A8)  # IEEE 802.1Q, 802.1ad
_EXTENSION_HEADERS = (0, 43, 60)  # hop-by-hop, routing, destination options, RFC 8200
_SAME_FRAME = 0.5  # seconds within which equal frames on different interfaces count as the same packet


@dataclass(frozen=True)
class Headers:
    """The decoded headers of a packet; empty or 0 if it has no such header.

    Attributes:
        protocol: ``"tcp"``, ``"udp"``, ``"icmp"``, ``"icmpv6"``, ``"arp"`` ..., or a number.
        flags: TCP flags, such as ``"SA"`` for SYN and ACK.
        vlans: the VLAN IDs of its tags, the outer one first.
        detail: further details.
    """

    protocol: str = ""
    source: str = ""
    destination: str = ""
    source_port: int = 0
    destination_port: int = 0
    flags: str = ""
    payload: bytes = b""
    detail: str = ""
    vlans: tuple[int, ...] = ()


@dataclass(frozen=True)
class Packet:
    """A packet sent or received by an interface.

    Attributes:
        time: seconds since 1970.
        namespace, interface: where it was captured.
        sent: whether the interface sent it, rather than received it.
        data: the frame, with its Ethernet header if it has one.
        ethernet: whether it has an Ethernet header; packets on tunnels start with the IP header.
        dropped: whether a cut, partition or isolation dropped it on arrival.
    """

    time: float
    namespace: str
    interface: str
    sent: bool
    data: bytes
    ethernet: bool = True
    dropped: bool = False

    @cached_property
    def headers(self) -> Headers:
        """Its decoded headers."""
        try:
            return _ethernet(self.data) if self.ethernet else _ip(self.data)
        except (IndexError, ValueError):  # truncated within a header
            return Headers(detail="malformed")

    @property
    def protocol(self) -> str:
        """``"tcp"``, ``"udp"``, ``"icmp"``, ``"icmpv6"``, ``"arp"`` ..."""
        return self.headers.protocol

    @property
    def source(self) -> str:
        """Its source IP address."""
        return self.headers.source

    @property
    def destination(self) -> str:
        """Its destination IP address."""
        return self.headers.destination

    @property
    def source_port(self) -> int:
        """Its TCP or UDP source port; 0 for none."""
        return self.headers.source_port

    @property
    def destination_port(self) -> int:
        """Its TCP or UDP destination port; 0 for none."""
        return self.headers.destination_port

    @property
    def flags(self) -> str:
        """Its TCP flags: ``"S"`` for SYN, ``"SA"`` for SYN and ACK, ``"F"``, ``"R"``, ``"P"`` ..."""
        return self.headers.flags

    @property
    def vlan(self) -> int:
        """The VLAN ID of its (outer) tag; 0 for none."""
        return self.headers.vlans[0] if self.headers.vlans else 0

    @property
    def payload(self) -> bytes:
        """Its data after the TCP or UDP header."""
        return self.headers.payload

    def __str__(self) -> str:
        here = self.headers
        tags = [f"vlan {each}" for each in here.vlans]
        if here.protocol == "arp":
            return " ".join([*tags, "arp", here.detail])
        ends = f"{_end(here.source, here.source_port)} > {_end(here.destination, here.destination_port)}"
        flags = f"[{here.flags}]" if here.flags else ""
        size = f"{len(here.payload)} B" if here.payload or (here.protocol == "udp" and here.destination_port) else ""
        return " ".join(filter(None, (*tags, here.protocol, ends if here.source else "", flags, here.detail, size)))

    def __repr__(self) -> str:
        return f"<Packet {'from' if self.sent else 'to'} {self.namespace}/{self.interface}: {self}>"


def digest(packets: Iterable[Packet], most: int, *, before: int = 0) -> list[str]:
    """Summarize the last frames, a line for each: time, packet, interfaces in order.

    Background traffic of kernels to multicast groups (MLD, router solicitations, IGMP) is omitted.

    Args:
        packets: in order of time.
        most: the maximum number of lines.
        before: the number of packets before these.
    """
    frames: list[tuple[Packet, list[str]]] = []
    recent: dict[bytes, int] = {}
    start = None
    for packet in packets:
        start = packet.time if start is None else start
        if packet.headers.detail in _CHATTER or packet.protocol == "igmp":
            continue
        place = f"{packet.namespace}/{packet.interface}{' dropped' if packet.dropped else ''}"
        known = recent.get(packet.data)
        if known is not None:
            first, places = frames[known]
            if place not in places and packet.time - first.time < _SAME_FRAME:
                places.append(place)
                continue
        recent[packet.data] = len(frames)
        frames.append((packet, [place]))
    before += max(len(frames) - most, 0)
    lines = [f"... {before} packets before"] if before else []
    for packet, places in frames[-most:]:
        lines.append(f"{packet.time - (start or 0):8.4f} s  {packet}  ({' → '.join(places)})")
    return lines


def _end(address: str, port: int) -> str:
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _ethernet(data: bytes) -> Headers:
    vlans: tuple[int, ...] = ()
    at = 12
    while (type_ := _number(data, at, 2)) in _VLAN_TYPES:
        vlans += (_number(data, at + 2, 2) & 0xFFF,)
        at += 4
    reader = _READERS.get(type_)
    if reader is None:
        return Headers(detail=f"ethernet type 0x{type_:04x}, {len(data)} B", vlans=vlans)
    headers = reader(data[at + 2 :])
    return replace(headers, vlans=vlans) if vlans else headers


def _ip(data: bytes) -> Headers:
    return _ipv6(data) if data[0] >> 4 == 6 else _ipv4(data)


def _arp(data: bytes) -> Headers:
    source, target = (str(ipaddress.IPv4Address(data[at : at + 4])) for at in (14, 24))
    asks = _number(data, 6, 2) == 1
    detail = f"who has {target}? tell {source}" if asks else f"{source} is at {data[8:14].hex(':')}"
    return Headers("arp", source, target, detail=detail)


def _ipv4(data: bytes) -> Headers:
    body = data[(data[0] & 0xF) * 4 : _number(data, 2, 2) or len(data)]  # 0 with segmentation offload
    source, destination = (str(ipaddress.IPv4Address(data[at : at + 4])) for at in (12, 16))
    offset = _number(data, 6, 2) & 0x1FFF
    if offset:
        name = _PROTOCOLS.get(data[9], str(data[9]))
        return Headers(name, source, destination, detail=f"fragment at {offset * 8}")
    return replace(_transport(data[9], body), source=source, destination=destination)


def _ipv6(data: bytes) -> Headers:
    protocol = data[6]
    length = _number(data, 4, 2)
    body = data[40 : 40 + length if length else len(data)]
    while protocol in _EXTENSION_HEADERS:
        protocol, body = body[0], body[(body[1] + 1) * 8 :]
    source, destination = (str(ipaddress.IPv6Address(data[at : at + 16])) for at in (8, 24))
    return replace(_transport(protocol, body), source=source, destination=destination)


# By Ethernet type.
_READERS: Final[Mapping[int, Callable[[bytes], Headers]]] = {0x0800: _ipv4, 0x86DD: _ipv6, 0x0806: _arp}


def _transport(protocol: int, body: bytes) -> Headers:
    name = _PROTOCOLS.get(protocol, str(protocol))
    if name == "tcp":
        bits = body[13]
        flags = "".join(letter for n, letter in enumerate(_TCP_FLAGS) if bits >> n & 1)
        # In the usual order: SYN first, ACK last.
        flags = "".join(sorted(flags, key="SFRPUECA".index))
        payload = body[(body[12] >> 4) * 4 :]
        return Headers(name, "", "", _number(body, 0, 2), _number(body, 2, 2), flags, payload)
    if name == "udp":
        return Headers(name, "", "", _number(body, 0, 2), _number(body, 2, 2), payload=body[8:])
    if name == "icmp":
        detail = _ICMP.get(body[0], f"type {body[0]}")
        if body[0] == 3:
            detail = f"{_UNREACHABLE.get(body[1], f'code {body[1]}')} {detail}".replace(
                "too big unreachable", "too big"
            )
        return Headers(name, detail=detail)
    if name == "icmpv6":
        return Headers(name, detail=_ICMPV6.get(body[0], f"type {body[0]}"))
    return Headers(name, detail=f"{len(body)} B")


def _number(data: bytes, at: int, size: int) -> int:
    if len(data) < at + size:
        raise IndexError(at)
    return int.from_bytes(data[at : at + size], "big")

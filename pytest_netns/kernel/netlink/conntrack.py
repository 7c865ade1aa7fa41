"""The connections a namespace's NAT keeps track of: read from the kernel's table, ctnetlink."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from pytest_netns.kernel.netlink import wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NETLINK_NETFILTER, NetlinkSocket
from pytest_netns.kernel.spaces import sysctls
from pytest_netns.kernel.spaces.netns import NetworkNamespace

_NFNL_SUBSYS_CTNETLINK, _IPCTNL_MSG_CT_GET = 1, 1
_HEADER_SIZE = 4  # struct nfgenmsg
# linux/netfilter/nfnetlink_conntrack.h
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_PROTOINFO = 1, 2, 4
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT = 1, 2, 3
_CTA_PROTOINFO_TCP, _CTA_PROTOINFO_TCP_STATE = 1, 1
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_TCP_STATES = [
    "none",
    "syn-sent",
    "syn-received",
    "established",
    "fin-wait",
    "close-wait",
    "last-ack",
    "time-wait",
    "close",
    "syn-sent2",
]


@dataclass(frozen=True)
class Direction:
    """One direction of a tracked connection; ports are 0 where the protocol has none."""

    source: str
    destination: str
    source_port: int
    destination_port: int

    def __str__(self) -> str:
        return f"{_endpoint(self.source, self.source_port)} > {_endpoint(self.destination, self.destination_port)}"


@dataclass(frozen=True)
class TrackedConnection:
    """A connection as it was begun, and as its replies are expected: where NAT is at work the two differ."""

    protocol: str
    state: str
    original: Direction
    reply: Direction

    def __str__(self) -> str:
        return " ".join(filter(None, (self.protocol, self.state, f"{self.original},", "replies", str(self.reply))))


def tracked_connections(namespace: NetworkNamespace) -> list[TrackedConnection]:
    """All connections tracked in a namespace, IPv4 and IPv6.

    Raises:
        KernelError: this kernel does not tell of them.
    """
    with namespace.entered():
        # A dump walks the table of the whole machine, 8 ms even where this namespace has nothing in it.
        if _count_here() == "0":
            return []
        netlink = NetlinkSocket(namespace.name, NETLINK_NETFILTER)
    try:
        kind = _NFNL_SUBSYS_CTNETLINK << 8 | _IPCTNL_MSG_CT_GET
        request = Request(("list tracked connections",), kind, struct.pack("=BBH", 0, 0, 0))
        return netlink.dump(request, parse)
    finally:
        netlink.close()


def _count_here() -> str:
    try:
        return sysctls.read("netfilter/nf_conntrack_count")
    except FileNotFoundError:  # the kernel tracks none
        return "0"


def parse(body: bytes) -> TrackedConnection:
    """An IPCTNL_MSG_CT_NEW message."""
    attributes = wire.attributes(body, _HEADER_SIZE)
    number, original = _direction(attributes[_CTA_TUPLE_ORIG])
    _, reply = _direction(attributes[_CTA_TUPLE_REPLY])
    tcp = wire.attributes(wire.attributes(attributes.get(_CTA_PROTOINFO, b"")).get(_CTA_PROTOINFO_TCP, b""))
    state = tcp.get(_CTA_PROTOINFO_TCP_STATE)
    named = "" if state is None else _TCP_STATES[state[0]] if state[0] < len(_TCP_STATES) else str(state[0])
    return TrackedConnection(_PROTOCOLS.get(number, str(number)), named, original, reply)


def _direction(data: bytes) -> tuple[int, Direction]:
    parts = wire.attributes(data)
    # Source is 1 (IPv4) or 3 (IPv6), destination 2 or 4.
    addresses = wire.attributes(parts[_CTA_TUPLE_IP])
    source, destination = (ipaddress.ip_address(addresses[number]) for number in sorted(addresses)[:2])
    protocol = wire.attributes(parts[_CTA_TUPLE_PROTO])
    ports = [int.from_bytes(protocol.get(number, b""), "big") for number in (_CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT)]
    return protocol[_CTA_PROTO_NUM][0], Direction(str(source), str(destination), *ports)


def _endpoint(address: str, port: int) -> str:
    shown = f"[{address}]" if ":" in address and port else address
    return f"{shown}:{port}" if port else shown

"""Connection tracking: the kernel's table of tracked connections, read over ctnetlink."""

from __future__ import annotations

import errno
import ipaddress
from dataclasses import dataclass, field

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink import nfnetlink, wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NetlinkSocket

_IPCTNL_MSG_CT_GET, _IPCTNL_MSG_CT_DELETE, _IPCTNL_MSG_CT_GET_STATS = 1, 2, 5
# linux/netfilter/nfnetlink_conntrack.h
_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_PROTOINFO, _CTA_ZONE = 1, 2, 4, 18
_CTA_STATS_GLOBAL_ENTRIES = 1
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
_TCP_NOT_OPEN = ("none", "syn-sent", "syn-sent2", "time-wait", "close")


@dataclass(frozen=True)
class Direction:
    """One direction of a tracked connection; ports are 0 if the protocol has none."""

    source: str
    destination: str
    source_port: int
    destination_port: int

    def __str__(self) -> str:
        return f"{_endpoint(self.source, self.source_port)} > {_endpoint(self.destination, self.destination_port)}"


@dataclass(frozen=True)
class TrackedConnection:
    """A tracked connection: its original direction, and the direction expected of its replies. With NAT the two differ.

    Attributes:
        protocol: ``"tcp"``, ``"udp"``, ``"icmp"``, ``"icmpv6"``, ``"sctp"``, or a number.
        state: the TCP state; empty for other protocols.
        key: identifies the connection in requests to the kernel.
    """

    protocol: str
    state: str
    original: Direction
    reply: Direction
    key: bytes = field(default=b"", repr=False, compare=False)

    @property
    def is_established(self) -> bool:
        """Whether it is a TCP connection that both ends regard as open."""
        return self.protocol == "tcp" and self.state not in _TCP_NOT_OPEN

    @property
    def has_other_source(self) -> bool:
        """Whether its source address or port is translated (SNAT)."""
        before_nat = (self.original.source, self.original.source_port)
        return before_nat != (self.reply.destination, self.reply.destination_port)

    @property
    def has_other_destination(self) -> bool:
        """Whether its destination address or port is translated (DNAT)."""
        before_nat = (self.original.destination, self.original.destination_port)
        return before_nat != (self.reply.source, self.reply.source_port)

    def __str__(self) -> str:
        return " ".join(filter(None, (self.protocol, self.state, f"{self.original},", "replies", str(self.reply))))


def count(netlink: NetlinkSocket) -> int:
    """Return the number of connections tracked in the socket's namespace."""
    request = Request(("count tracked connections",), nfnetlink.ctnetlink(_IPCTNL_MSG_CT_GET_STATS), nfnetlink.header())
    return netlink.get(request, _parse_count)


def tracked(netlink: NetlinkSocket) -> list[TrackedConnection]:
    """All connections tracked in the socket's namespace, IPv4 and IPv6.

    Raises:
        KernelError: this kernel does not list them.
    """
    # A dump walks the table of the whole machine: 8 ms even if this namespace has no entries.
    if not count(netlink):
        return []
    return netlink.dump(
        Request(("list tracked connections",), nfnetlink.ctnetlink(_IPCTNL_MSG_CT_GET), nfnetlink.header()), parse
    )


def delete(netlink: NetlinkSocket, connection: TrackedConnection) -> None:
    """Delete one connection, so that the current rules apply to its next packet; do nothing if it has already ended."""
    request = Request(("delete tracked connection",), nfnetlink.ctnetlink(_IPCTNL_MSG_CT_DELETE), connection.key)
    try:
        netlink.request(request)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise


def delete_all(netlink: NetlinkSocket) -> None:
    """Delete all connections tracked in the socket's namespace."""
    netlink.request(
        Request(("delete tracked connections",), nfnetlink.ctnetlink(_IPCTNL_MSG_CT_DELETE), nfnetlink.header())
    )


def parse(body: bytes) -> TrackedConnection:
    """Parse an IPCTNL_MSG_CT_NEW message."""
    attributes = wire.attributes(body, nfnetlink.HEADER_SIZE)
    number, original = _direction(attributes[_CTA_TUPLE_ORIG])
    _, reply = _direction(attributes[_CTA_TUPLE_REPLY])
    tcp = wire.attributes(wire.attributes(attributes.get(_CTA_PROTOINFO, b"")).get(_CTA_PROTOINFO_TCP, b""))
    state = tcp.get(_CTA_PROTOINFO_TCP_STATE)
    state_name = "" if state is None else _TCP_STATES[state[0]] if state[0] < len(_TCP_STATES) else str(state[0])
    key = body[: nfnetlink.HEADER_SIZE] + wire.attribute(
        _CTA_TUPLE_ORIG | wire.NLA_F_NESTED, attributes[_CTA_TUPLE_ORIG]
    )
    if _CTA_ZONE in attributes:
        key += wire.attribute(_CTA_ZONE, attributes[_CTA_ZONE])
    return TrackedConnection(_PROTOCOLS.get(number, str(number)), state_name, original, reply, key)


def _direction(data: bytes) -> tuple[int, Direction]:
    parts = wire.attributes(data)
    # Source is 1 (IPv4) or 3 (IPv6), destination 2 or 4.
    addresses = wire.attributes(parts[_CTA_TUPLE_IP])
    source, destination = (ipaddress.ip_address(addresses[number]) for number in sorted(addresses)[:2])
    protocol = wire.attributes(parts[_CTA_TUPLE_PROTO])
    ports = [int.from_bytes(protocol.get(number, b""), "big") for number in (_CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT)]
    return protocol[_CTA_PROTO_NUM][0], Direction(str(source), str(destination), *ports)


def _parse_count(body: bytes) -> int:
    return int.from_bytes(wire.attributes(body, nfnetlink.HEADER_SIZE)[_CTA_STATS_GLOBAL_ENTRIES], "big")


def _endpoint(address: str, port: int) -> str:
    shown = f"[{address}]" if ":" in address and port else address
    return f"{shown}:{port}" if port else shown

"""The connections a namespace's NAT keeps track of: read from the kernel's table, ctnetlink."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from pytest_netns.kernel.netlink import messages
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NETLINK_NETFILTER, NetlinkSocket
from pytest_netns.kernel.spaces import sysctls
from pytest_netns.kernel.spaces.netns import NetworkNamespace

_NFNL_SUBSYS_CTNETLINK, _IPCTNL_MSG_CT_GET = 1, 1
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


def tracked_connections(namespace: NetworkNamespace, at_most: int) -> tuple[list[TrackedConnection], int]:
    """The connections tracked in a namespace, IPv4 and IPv6.

    Args:
        at_most: how many to tell; each takes about 0.5 ms to decode.

    Returns:
        The connections, and how many more there are.

    Raises:
        KernelError: this kernel does not tell of them.
    """
    with namespace.entered():
        # A dump walks the table of the whole machine, 8 ms even where this namespace has nothing in it.
        if _count_here() == "0":
            return [], 0
        netlink = NetlinkSocket(namespace.name, NETLINK_NETFILTER)
    try:
        kind = _NFNL_SUBSYS_CTNETLINK << 8 | _IPCTNL_MSG_CT_GET
        request = Request(("list tracked connections",), kind, struct.pack("=BBH", 0, 0, 0))
        found = netlink.dump(request, bytes)
    finally:
        netlink.close()
    return [parse(body) for body in found[:at_most]], max(len(found) - at_most, 0)


def _count_here() -> str:
    try:
        return sysctls.read("netfilter/nf_conntrack_count")
    except FileNotFoundError:  # the kernel tracks none
        return "0"


def parse(body: bytes) -> TrackedConnection:
    """An IPCTNL_MSG_CT_NEW message."""
    found = messages.read("connection", body)
    state = found.get("protoinfo", {}).get("tcp", {}).get("state")
    named = "" if state is None else _TCP_STATES[state] if state < len(_TCP_STATES) else str(state)
    original, reply = found["tuple_orig"], found["tuple_reply"]
    number = original["proto"]["num"]
    return TrackedConnection(_PROTOCOLS.get(number, str(number)), named, _direction(original), _direction(reply))


def _direction(found: dict[str, dict[str, Any]]) -> Direction:
    address, protocol = found["ip"], found["proto"]
    version = "v4" if "v4_src" in address else "v6"
    ports = protocol.get("src_port", 0), protocol.get("dst_port", 0)
    return Direction(address[f"{version}_src"], address[f"{version}_dst"], *ports)


def _endpoint(address: str, port: int) -> str:
    shown = f"[{address}]" if ":" in address and port else address
    return f"{shown}:{port}" if port else shown

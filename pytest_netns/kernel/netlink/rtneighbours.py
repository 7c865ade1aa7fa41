"""Neighbours as rtnetlink requests and values: pure, rtnetlink(7)."""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass

from pytest_netns.kernel.netlink import rtlinks, wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.wire import NLM_F_CREATE, NLM_F_REPLACE, attribute
from pytest_netns.values.addresses import IPAddress

RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NUD_STATES = {
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    0x40: "noarp",
    0x80: "permanent",
}
_NUD_PERMANENT = 0x80
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_NDA_DST, _NDA_LLADDR, _NDA_CACHEINFO = 1, 2, 3


AGE_ERROR = 0.02  # seconds by which a neighbour may be older than reported: the kernel counts ticks and reports 1/100 s


@dataclass(frozen=True)
class NeighbourInfo:
    """An entry of the neighbour table (ARP or NDP); ``age`` is the time in seconds since its state changed."""

    address: IPAddress
    mac: str
    index: int
    state: str
    age: float = 0

    @property
    def is_silent(self) -> bool:
        """Whether it was solicited and has not answered."""
        return self.state in ("incomplete", "failed")


def add_neighbour(address: IPAddress, mac: str, index: int) -> Request:
    """Add a permanent entry; replaces a learned one."""
    body = _key(address, index, _NUD_PERMANENT) + attribute(_NDA_LLADDR, bytes.fromhex(mac.replace(":", "")))
    return Request(("add neighbour", address), RTM_NEWNEIGH, body, NLM_F_CREATE | NLM_F_REPLACE)


def remove_neighbour(address: IPAddress, index: int) -> Request:
    """Remove an entry."""
    return Request(("remove neighbour", address), RTM_DELNEIGH, _key(address, index, 0))


def _key(address: IPAddress, index: int, state: int) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return _NEIGHBOUR.pack(family, index, state, 0, 0) + attribute(_NDA_DST, address.packed)


def dump_neighbours() -> Request:
    """The neighbour tables of both families."""
    return Request(("list neighbours",), RTM_GETNEIGH, _NEIGHBOUR.pack(0, 0, 0, 0, 0))


def parse_neighbour(body: bytes) -> NeighbourInfo | None:
    """Parse an RTM_NEWNEIGH message; None for multicast entries and bridge forwarding entries."""
    family, index, state, _, _ = _NEIGHBOUR.unpack_from(body)
    attributes = wire.attributes(body, _NEIGHBOUR.size)
    if family not in (socket.AF_INET, socket.AF_INET6) or state == 0x40 or _NDA_DST not in attributes:
        return None
    mac = rtlinks.format_mac(attributes.get(_NDA_LLADDR, b""))
    # struct nda_cacheinfo: how long ago it was confirmed, used, updated, in 1/100 s
    updated = struct.unpack_from("=8xI", attributes.get(_NDA_CACHEINFO, bytes(16)))[0] / 100
    name = NUD_STATES.get(state, "none")
    return NeighbourInfo(ipaddress.ip_address(attributes[_NDA_DST]), mac, index, name, updated)

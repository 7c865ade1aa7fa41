"""Addresses as rtnetlink requests and values: pure, rtnetlink(7)."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import TypeAlias

from pytest_netns.kernel.netlink import wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.wire import NLM_F_CREATE, NLM_F_EXCL, attribute, u32

IPInterface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
ADDRESS_GROUPS = (5, 9)  # RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
IFA_F_NODAD = 0x02
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8


def add_address(index: int, name: str, address: IPInterface) -> Request:
    """Give an interface an address, usable at once: no duplicate address detection (RFC 4862 section 5.4)."""
    return Request(
        ("add address", address, "to", name), RTM_NEWADDR, _address(index, address), NLM_F_CREATE | NLM_F_EXCL
    )


def remove_address(index: int, name: str, address: IPInterface) -> Request:
    """Take an address from an interface."""
    return Request(("remove address", address, "from", name), RTM_DELADDR, _address(index, address))


def dump_addresses() -> Request:
    """All addresses of all interfaces."""
    return Request(("list addresses",), RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0))


def parse_address(body: bytes) -> tuple[int, IPInterface]:
    """An RTM_NEWADDR message: interface index and address."""
    _, prefix_length, _, _, index = _IFADDR.unpack_from(body)
    attributes = wire.attributes(body, _IFADDR.size)
    raw = attributes.get(_IFA_LOCAL) or attributes[_IFA_ADDRESS]
    return index, ipaddress.ip_interface((raw, prefix_length))


def _address(index: int, address: IPInterface) -> bytes:
    packed, network = address.packed, address.network
    body = _IFADDR.pack(_family(address), network.prefixlen, 0, 0, index)
    body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    if address.version == 6:
        return body + u32(_IFA_FLAGS, IFA_F_NODAD)
    if network.prefixlen < 31:  # RFC 3021: no broadcast address on a point-to-point network
        body += attribute(_IFA_BROADCAST, network.broadcast_address.packed)
    return body


def _family(address: IPInterface) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6

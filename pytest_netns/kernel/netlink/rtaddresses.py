"""Addresses as rtnetlink requests and values: pure, rtnetlink(7)."""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass

from pytest_netns.kernel.netlink import wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.wire import NLM_F_CREATE, NLM_F_EXCL, attribute, u32
from pytest_netns.values.addresses import IPInterface, IPv4PeerInterface, IPv6PeerInterface

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
ADDRESS_GROUPS = (5, 9)  # RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
IFA_F_SECONDARY, IFA_F_NODAD, IFA_F_PERMANENT = 0x01, 0x02, 0x80
_IFADDR = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 4, 6, 8


def add_address(index: int, name: str, address: IPInterface, scope: int = 0) -> Request:
    """Give an interface an address, usable at once: no duplicate address detection (RFC 4862 section 5.4)."""
    body = _address(index, address, scope)
    return Request(("add address", address, "to", name), RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_EXCL)


def remove_address(index: int, name: str, address: IPInterface) -> Request:
    """Remove an address from an interface."""
    return Request(("remove address", address, "from", name), RTM_DELADDR, _address(index, address))


def dump_addresses() -> Request:
    """All addresses of all interfaces."""
    return Request(("list addresses",), RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0))


def find_address(index: int, address: ipaddress.IPv6Address) -> Request:
    """One IPv6 address of an interface."""
    body = _IFADDR.pack(socket.AF_INET6, 128, 0, 0, index) + attribute(_IFA_ADDRESS, address.packed)
    return Request(("find address", address), RTM_GETADDR, body)


@dataclass(frozen=True)
class AddressInfo:
    """An address as the kernel describes it.

    Attributes:
        link_index: the index of the interface.
        address: with prefix length; that of a single host if it has a peer.
        peer: the peer's address or network, if any.
        flags: IFA_F_ of linux/if_addr.h.
        scope: its scope, RT_SCOPE_ of linux/rtnetlink.h.
    """

    link_index: int
    address: IPInterface
    peer: IPInterface | None
    flags: int
    scope: int

    @property
    def is_secondary(self) -> bool:
        """Whether it is an IPv4 secondary address, removed with the primary one of its network. (For IPv6 the flag means temporary.)"""
        return self.address.version == 4 and bool(self.flags & IFA_F_SECONDARY)

    @property
    def is_static(self) -> bool:
        """Whether it was configured, rather than assigned by the kernel or a router."""
        return bool(self.flags & IFA_F_PERMANENT) and not self.address.ip.is_link_local


def parse_address_info(body: bytes) -> AddressInfo:
    """Parse an RTM_NEWADDR message."""
    _, prefix_length, flags, scope, index = _IFADDR.unpack_from(body)
    attributes = wire.attributes(body, _IFADDR.size)
    peer = attributes.get(_IFA_ADDRESS, b"")
    local = attributes.get(_IFA_LOCAL) or peer
    if _IFA_FLAGS in attributes:  # the header has only the lower 8 bits
        flags = wire.read_u32(attributes[_IFA_FLAGS])
    if peer in (local, b""):
        return AddressInfo(index, ipaddress.ip_interface((local, prefix_length)), None, flags, scope)
    return AddressInfo(
        index, ipaddress.ip_interface(local), ipaddress.ip_interface((peer, prefix_length)), flags, scope
    )


def parse_address(body: bytes) -> tuple[int, IPInterface]:
    """Parse an RTM_NEWADDR message into interface index and address."""
    info = parse_address_info(body)
    return info.link_index, info.address


def replay(body: bytes, type_: int) -> Request:
    """Turn a notification about an address into a request that adds or removes the same address."""
    description = ("add" if type_ == RTM_NEWADDR else "remove", "address", parse_address_info(body).address)
    attributes = {name: value for name, value in wire.attributes(body, _IFADDR.size).items() if name != _IFA_CACHEINFO}
    family, length, _, scope, index = _IFADDR.unpack_from(body)
    if type_ == RTM_NEWADDR and family == socket.AF_INET6:
        attributes[_IFA_FLAGS] = struct.pack("=I", IFA_F_NODAD)
    packed = b"".join(attribute(name, value) for name, value in attributes.items())
    flags = NLM_F_CREATE | NLM_F_EXCL if type_ == RTM_NEWADDR else 0
    return Request(description, type_, _IFADDR.pack(family, length, 0, scope, index) + packed, flags)


def _address(index: int, address: IPInterface, scope: int = 0) -> bytes:
    packed, network = address.packed, address.network
    peer = address.peer if isinstance(address, IPv4PeerInterface | IPv6PeerInterface) else None
    length, is_ipv6 = network.prefixlen, len(packed) > 4
    body = _IFADDR.pack(socket.AF_INET6 if is_ipv6 else socket.AF_INET, length, 0, scope, index)
    body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed if peer is None else peer.packed)
    if is_ipv6:
        return body + u32(_IFA_FLAGS, IFA_F_NODAD)
    if length < 31 and peer is None:  # RFC 3021: no broadcast address on a point-to-point network
        body += attribute(_IFA_BROADCAST, network.broadcast_address.packed)
    return body

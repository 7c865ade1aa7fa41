"""Parsers for addresses, networks, MAC addresses and MTUs; pure."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import TypeAlias

from pytest_netns.errors import InvalidTopologyError

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPInterface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

MIN_MTU, MAX_MTU = 68, 65535
MAC_PATTERN = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class _WithPeer:
    """An interface's address with that of its peer, ``"10.0.0.1 peer 10.0.0.2/32"``; its network is the peer's."""

    def __init__(self, text: str) -> None:
        local, _, remote = text.partition(" peer ")
        peer = ipaddress.ip_interface(remote.strip())
        super().__init__((ipaddress.ip_address(local.strip()).packed, peer.network.prefixlen))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        self.peer = peer
        self.__dict__["network"] = peer.network

    def __str__(self) -> str:
        return f"{self.ip} peer {self.peer}"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (str(self),)


class IPv4PeerInterface(_WithPeer, ipaddress.IPv4Interface):
    """An interface's IPv4 address with the address of its peer."""


class IPv6PeerInterface(_WithPeer, ipaddress.IPv6Interface):
    """An interface's IPv6 address with the address of its peer."""


def _parse_with_peer(text: str) -> IPInterface:
    local, _, remote = text.partition(" peer ")
    try:
        version = ipaddress.ip_address(local.strip()).version
        if "/" not in remote or ipaddress.ip_interface(remote.strip()).version != version:
            raise ValueError
    except ValueError:
        raise InvalidTopologyError(
            f"cannot use {text!r} as interface address: write the peer with a prefix length, such as '10.0.0.1 peer 10.0.0.2/32'"
        ) from None
    return IPv4PeerInterface(text) if version == 4 else IPv6PeerInterface(text)


def parse_interface_address(value: object) -> IPInterface:
    """Parse an interface's address with prefix length: ``"192.168.15.1/24"``.

    With a peer it is ``"10.0.0.1 peer 10.0.0.2/32"``. A prefix length is required, since an address without one reaches no
    peer; the network's own address and, for IPv4, its broadcast address are refused (RFC 4291 section 2.6.1 and RFC 919).
    """
    if isinstance(value, IPInterface):
        address = value
    elif isinstance(value, str) and " peer " in value:
        return _parse_with_peer(value)
    else:
        if not isinstance(value, str) or "/" not in value:
            raise InvalidTopologyError(
                f"cannot use {value!r} as interface address: it needs a prefix length, such as '192.168.15.1/24' or 'fd00::1/64'"
            )
        try:
            address = ipaddress.ip_interface(value)
        except ValueError as error:
            raise InvalidTopologyError(
                f"cannot use {value!r} as interface address: {error}; write it like '192.168.15.1/24' or 'fd00::1/64'"
            ) from None
    network = address.network
    if isinstance(address, ipaddress.IPv6Interface) and address.scope_id is not None:
        raise InvalidTopologyError(
            f"cannot use '{address}' as interface address: the interface itself is the zone; leave out '%{address.scope_id}'"
        )
    if address.ip.is_multicast or address.ip.is_unspecified:
        raise InvalidTopologyError(f"cannot use '{address}' as interface address: it is not a unicast address")
    if network.num_addresses > 2:
        mistake = ""
        if address.ip == network.network_address:
            mistake = "it is the address of the network itself"
        elif address.version == 4 and address.ip == network.broadcast_address:
            mistake = "it is the network's broadcast address"
        if mistake:
            example = f"{network.network_address + 1}/{network.prefixlen}"
            raise InvalidTopologyError(
                f"cannot use '{address}' as interface address: {mistake}; '{example}' would be valid"
            )
    return address


def parse_address(value: object, what: str = "address") -> IPAddress:
    """Parse an address without prefix length: ``"192.168.15.5"``."""
    if isinstance(value, IPInterface):
        return value.ip
    if isinstance(value, IPAddress):
        return value
    try:
        return ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise InvalidTopologyError(
            f"cannot use {value!r} as {what}: write an IPv4 or IPv6 address without prefix length, such as '192.168.15.5'"
        ) from None


def parse_network(value: object, what: str = "network") -> IPNetwork:
    """Parse a network, or a single address as a network: ``"192.168.15.0/24"``."""
    if isinstance(value, IPNetwork):
        return value
    if isinstance(value, IPAddress):
        return ipaddress.ip_network(value)
    text = value if isinstance(value, str) else ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_network(text)
    hint = ""
    with contextlib.suppress(ValueError):  # it may only have host bits set
        hint = f"; '{ipaddress.ip_network(text, strict=False)}' would be valid"
    raise InvalidTopologyError(f"cannot use {value!r} as {what}: write a network such as '192.168.15.0/24'{hint}")


def parse_destination(value: object) -> IPNetwork | None:
    """Parse the destination of a route; None stands for ``"default"``, whose family is that of the gateway."""
    if isinstance(value, str) and value == "default":
        return None
    return parse_network(value, "route destination")


def parse_mtu(value: object) -> int:
    """Parse an MTU in bytes, 68 (RFC 791) to 65535."""
    if isinstance(value, int) and not isinstance(value, bool) and MIN_MTU <= value <= MAX_MTU:
        return value
    raise InvalidTopologyError(f"cannot use {value!r} as MTU: use a whole number of bytes from {MIN_MTU} to {MAX_MTU}")


def parse_mac(value: object) -> str:
    """Parse a unicast MAC address; returns it in lower case: ``"02:00:00:00:00:01"``."""
    valid = "write six bytes such as '02:00:00:00:00:01'"
    if not isinstance(value, str) or not MAC_PATTERN.fullmatch(value.lower()):
        raise InvalidTopologyError(f"cannot use {value!r} as MAC address: {valid}")
    mac = value.lower()
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise InvalidTopologyError(f"cannot use {value!r} as MAC address: it is not a unicast address; {valid}")
    return mac

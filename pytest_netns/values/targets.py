"""Parsers for ports with protocol, gateways and targets: ``"udp/53"``, ``"blue:80"``, ``"[fd00::2]:80"``; pure."""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.values.addresses import IPAddress
from pytest_netns.values.choices import PROTOCOLS
from pytest_netns.values.names import NAME_PATTERN
from pytest_netns.values.ports import Ports, parse_port, parse_ports


@dataclass(frozen=True)
class Target:
    """The target of a port forward: an address or the name of a namespace, and a port.

    Attributes:
        host: an IP address, or the name of a namespace.
        port: 1 to 65535, or a range; None for none.
    """

    host: IPAddress | str
    port: Ports | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if isinstance(self.host, ipaddress.IPv6Address) else str(self.host)
        return host if self.port is None else f"{host}:{self.port}"


def parse_service_port(value: object) -> tuple[str, int]:
    """Parse a port with protocol, default tcp: ``8080``, ``"udp/53"``.

    Returns:
        The protocol and port, such as ``("udp", 53)``.
    """
    if not isinstance(value, str):
        return "tcp", parse_port(value)
    protocol, slash, number = value.rpartition("/")
    if not _is_number(number) or (slash and protocol not in PROTOCOLS):
        raise InvalidTopologyError(f"cannot use {value!r} as port: write a number such as 8080, or 'udp/53'")
    return protocol or "tcp", parse_port(int(number))


def parse_service_ports(value: object) -> tuple[tuple[str, ...], Ports]:
    """Parse ports with protocols, default tcp: ``8080``, ``"udp/53"``, ``"tcp+udp/5000-5010"``.

    Returns:
        The protocols and ports, such as ``(("tcp", "udp"), PortRange(5000, 5010))``.
    """
    protocols, slash, ports = value.rpartition("/") if isinstance(value, str) else ("", "", value)
    named = tuple(protocols.split("+")) if slash else ("tcp",)
    if any(each not in PROTOCOLS for each in named):
        raise InvalidTopologyError(
            f"cannot use {value!r} as port: write 8080, 'udp/53', '5000-5010' or 'tcp+udp/5000-5010'"
        )
    return named, parse_ports(ports)


def parse_gateway(value: object) -> IPAddress | str:
    """Parse a gateway: an address such as ``"192.168.15.5"``, or the name of a namespace."""
    try:
        target = parse_target(value)
    except InvalidTopologyError:
        target = None
    if target is None or target.port is not None:
        raise InvalidTopologyError(
            f"cannot use {value!r} as gateway: write an address without prefix length, such as '192.168.15.5', or the name of a namespace"
        )
    return target.host


def parse_target(value: object) -> Target:
    """Parse a target: ``"192.168.15.2:80"``, ``"[fd00::2]:80"``, ``"blue:80"``, ``"blue:6000-6010"``, ``"blue"``."""
    if isinstance(value, Target):
        return parse_target(str(value))
    if isinstance(value, IPAddress):
        return Target(value, None)
    valid = "write 'ADDRESS:PORT', '[IPV6]:PORT' or 'NAMESPACE:PORT'"
    if not isinstance(value, str) or not value:
        raise InvalidTopologyError(f"cannot use {value!r} as target: {valid}")
    host, port = _split_port(value)
    try:
        number = None if port is None else parse_ports(port)
    except InvalidTopologyError:
        raise InvalidTopologyError(
            f"cannot use {value!r} as target: {port!r} is not a port from 1 to 65535, nor a range of ports; {valid}"
        ) from None
    if (found := _parse_host(host)) is not None:
        return Target(found, number)
    raise InvalidTopologyError(
        f"cannot use {value!r} as target: {host!r} is neither an address nor the name of a namespace; {valid}"
    )


@functools.lru_cache(maxsize=1024)  # a thousand forwards lead to a few hosts
def _parse_host(text: str) -> IPAddress | str | None:
    """An address, or what can be the name of a namespace; None if it is neither."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return text if NAME_PATTERN.fullmatch(text) and not re.fullmatch(r"[0-9.]+", text) else None


def _is_number(text: str) -> bool:
    """Whether it consists of digits, and no more than int() accepts."""
    return text.isascii() and text.isdigit() and len(text) < 100


def _split_port(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if bracket and (not rest or rest.startswith(":")):
            return host, rest[1:] if rest else None
        return text, None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None

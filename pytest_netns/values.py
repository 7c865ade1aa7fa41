"""What users write - names, addresses, ports, targets - checked once and turned into values.

Pure: nothing here talks to the kernel. Every function raises `InvalidTopologyError` with a message
that names the value and what would be valid.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from pytest_netns.errors import InvalidTopologyError

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPInterface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

SUGGESTED = 20
PROTOCOLS = ("tcp", "udp")
MIN_MTU, MAX_MTU = 68, 65535

# Interface names are at most 15 bytes (IFNAMSIZ - 1, netdevice(7)); the kernel would also take names such as
# "$(id)" or "-x" and expands "a%d", so the allowed characters are narrower than the kernel's.
MAX_NAME = 15
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
# "lo" is there already; the other two are directories of /proc/sys/net/*/conf, so the kernel refuses them.
RESERVED_INTERFACE_NAMES = ("lo", "all", "default")
HOSTNAME_PATTERN = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*")
MAC_PATTERN = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
# Only a setting below "net" is the namespace's own; any other would change the real machine.
SYSCTL_PATTERN = re.compile(r"net([./][A-Za-z0-9_:-][A-Za-z0-9_.:-]*)+")


@dataclass(frozen=True)
class Target:
    """Where a port forward leads: an address or the name of a namespace, and a port.

    Attributes:
        host: an IP address, or the name of a namespace.
        port: 1 to 65535; None where the text named none.
    """

    host: IPAddress | str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if isinstance(self.host, ipaddress.IPv6Address) else str(self.host)
        return host if self.port is None else f"{host}:{self.port}"


def parse_name(value: object, what: str = "namespace") -> str:
    """A valid name of a namespace or interface, unchanged."""
    if isinstance(value, str) and NAME_PATTERN.fullmatch(value):
        return value
    raise InvalidTopologyError(
        f"cannot use {value!r} as {what} name: a name has 1 to 15 characters out of A-Z a-z 0-9 _ . - and starts with a letter or digit"
    )


def parse_interface_name(value: object) -> str:
    """A valid name of an interface yet to be made, unchanged."""
    name = parse_name(value, "interface")
    if name in RESERVED_INTERFACE_NAMES:
        raise InvalidTopologyError(f"cannot use {value!r} as interface name: the kernel keeps that name for itself")
    return name


def parse_hostname(value: object) -> str:
    """A valid host name for /etc/hosts (RFC 1123, and underscores), unchanged."""
    if isinstance(value, str) and HOSTNAME_PATTERN.fullmatch(value):
        return value
    raise InvalidTopologyError(
        f"cannot use {value!r} as host name: write labels of letters, digits and - joined by dots, such as 'api.example.com'"
    )


def parse_interface_address(value: object) -> IPInterface:
    """An address with its prefix length, for an interface: ``"192.168.15.1/24"``.

    A prefix length is required, since an address without one reaches nobody; the network's own address and, for IPv4,
    its broadcast address are refused (RFC 4291 section 2.6.1 and RFC 919).
    """
    if isinstance(value, ipaddress.IPv4Interface | ipaddress.IPv6Interface):
        address = value
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
    """An address without prefix length: ``"192.168.15.5"``."""
    if isinstance(value, ipaddress.IPv4Interface | ipaddress.IPv6Interface):
        return value.ip
    if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return value
    try:
        return ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise InvalidTopologyError(
            f"cannot use {value!r} as {what}: write an IPv4 or IPv6 address without prefix length, such as '192.168.15.5'"
        ) from None


def parse_network(value: object, what: str = "network") -> IPNetwork:
    """A network, or a single address as the network of that one: ``"192.168.15.0/24"``."""
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    try:
        if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
            return ipaddress.ip_network(value)
        return ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError as error:
        hint = ""
        if "host bits" in str(error) and isinstance(value, str):
            hint = f"; '{ipaddress.ip_network(value, strict=False)}' would be valid"
        raise InvalidTopologyError(
            f"cannot use {value!r} as {what}: write a network such as '192.168.15.0/24'{hint}"
        ) from None


def parse_destination(value: object) -> IPNetwork | None:
    """The destination of a route; None stands for ``"default"``, whose family its gateway decides."""
    if value == "default":
        return None
    return parse_network(value, "route destination")


def parse_port(value: object, what: str = "port") -> int:
    """A port number, 1 to 65535."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    raise InvalidTopologyError(f"cannot use {value!r} as {what}: a port is a whole number from 1 to 65535")


def parse_service_port(value: object) -> tuple[str, int]:
    """A port and its protocol, tcp where none is named: ``8080``, ``"udp/53"``.

    Returns:
        Protocol and port, such as ``("udp", 53)``.
    """
    if not isinstance(value, str):
        return "tcp", parse_port(value)
    protocol, slash, number = value.rpartition("/")
    if not (number.isascii() and number.isdigit()) or (slash and protocol not in PROTOCOLS):
        raise InvalidTopologyError(f"cannot use {value!r} as port: write a number such as 8080, or 'udp/53'")
    return protocol or "tcp", parse_port(int(number))


def parse_protocol(value: object) -> str:
    """``"tcp"`` or ``"udp"``."""
    return parse_choice(value, PROTOCOLS, "protocol")


def parse_mtu(value: object) -> int:
    """An MTU in bytes, 68 (RFC 791) to 65535."""
    if isinstance(value, int) and not isinstance(value, bool) and MIN_MTU <= value <= MAX_MTU:
        return value
    raise InvalidTopologyError(
        f"cannot use {value!r} as MTU: it is a whole number of bytes from {MIN_MTU} to {MAX_MTU}"
    )


def parse_mac(value: object) -> str:
    """A MAC address that an interface can have, in lower case: ``"02:00:00:00:00:01"``."""
    valid = "write six bytes such as '02:00:00:00:00:01'"
    if not isinstance(value, str) or not MAC_PATTERN.fullmatch(value.lower()):
        raise InvalidTopologyError(f"cannot use {value!r} as MAC address: {valid}")
    mac = value.lower()
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise InvalidTopologyError(f"cannot use {value!r} as MAC address: it is not a unicast address; {valid}")
    return mac


def parse_sysctl_name(value: object) -> str:
    """The name of a kernel setting that a network namespace has of its own, unchanged: ``"net.ipv4.ip_forward"``."""
    if isinstance(value, str) and SYSCTL_PATTERN.fullmatch(value):
        return value
    raise InvalidTopologyError(
        f"cannot use {value!r} as sysctl: only settings below 'net' belong to a namespace, such as 'net.ipv4.ip_forward'"
    )


def parse_sysctl_value(value: object) -> str:
    """The value of a kernel setting, as the text to be written: ``1`` and ``True`` become ``"1"``."""
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, str) and re.fullmatch(r"[ -~\t]+", value):
        return value
    raise InvalidTopologyError(f"cannot use {value!r} as value of a sysctl: write a number or one line of text")


def parse_gateway(value: object) -> IPAddress | str:
    """A gateway: an address such as ``"192.168.15.5"``, or the name of a namespace."""
    try:
        target = parse_target(value)
    except InvalidTopologyError:
        target = None
    if target is None or target.port is not None:
        raise InvalidTopologyError(
            f"cannot use {value!r} as gateway: write an address without prefix length, such as '192.168.15.5', or the name of a namespace"
        )
    return target.host


def parse_choice(value: object, choices: Iterable[str], what: str) -> str:
    """One of the choices, unchanged."""
    valid = list(choices)
    if isinstance(value, str) and value in valid:
        return value
    raise InvalidTopologyError(f"cannot use {value!r} as {what}: {suggest(value, valid)}")


def parse_target(value: object) -> Target:
    """Where to forward to: ``"192.168.15.2:80"``, ``"[fd00::2]:80"``, ``"blue:80"``; the port may be left out."""
    if isinstance(value, Target):
        return parse_target(str(value))
    if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return Target(value, None)
    valid = "write 'ADDRESS:PORT', '[IPV6]:PORT' or 'NAMESPACE:PORT'"
    if not isinstance(value, str) or not value:
        raise InvalidTopologyError(f"cannot use {value!r} as target: {valid}")
    host, port = _split_port(value)
    if port is not None and not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise InvalidTopologyError(f"cannot use {value!r} as target: {port!r} is not a port from 1 to 65535; {valid}")
    number = None if port is None else int(port)
    try:
        return Target(ipaddress.ip_address(host), number)
    except ValueError:
        pass
    if NAME_PATTERN.fullmatch(host) and not re.fullmatch(r"[0-9.]+", host):
        return Target(host, number)
    raise InvalidTopologyError(
        f"cannot use {value!r} as target: {host!r} is neither an address nor the name of a namespace; {valid}"
    )


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


def suggest(value: Any, valid: Iterable[object]) -> str:
    """``valid are: a, b (did you mean 'a'?)``."""
    names = [str(name) for name in valid]
    close = difflib.get_close_matches(str(value), names, n=1)
    listing = ", ".join(repr(name) for name in names[:SUGGESTED]) or "none"
    if len(names) > SUGGESTED:
        listing += f" and {len(names) - SUGGESTED} more"
    return f"valid are {listing}" + (f" (did you mean {close[0]!r}?)" if close else "")

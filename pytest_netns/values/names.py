"""Parsers for names of namespaces, interfaces, hosts and kernel settings; pure."""

from __future__ import annotations

import re

from pytest_netns.errors import InvalidTopologyError

# Interface names are at most 15 bytes (IFNAMSIZ - 1, netdevice(7)); the kernel would also take names such as
# "$(id)" or "-x" and expands "a%d", so the allowed characters are narrower than the kernel's.
MAX_NAME = 15
INTERFACE_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
# A namespace's name is its programs' host name: at most 63 characters, as a label of a domain name, RFC 1035.
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
# "lo" always exists; the other two are directories of /proc/sys/net/*/conf, so the kernel refuses them.
RESERVED_INTERFACE_NAMES = ("lo", "all", "default")
HOSTNAME_PATTERN = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*")
# Only settings below "net" belong to a namespace; any other would change the real machine.
SYSCTL_PATTERN = re.compile(r"net([./][A-Za-z0-9_:-][A-Za-z0-9_.:-]*)+")


def parse_name(value: object) -> str:
    """Check the name of a namespace and return it."""
    if isinstance(value, str) and NAME_PATTERN.fullmatch(value):
        return value
    raise _invalid_name(value, "namespace", 63)


def parse_device_name(value: object) -> str:
    """Check the name of an interface and return it; names of interfaces of every namespace are allowed."""
    if isinstance(value, str) and INTERFACE_NAME_PATTERN.fullmatch(value):
        return value
    raise _invalid_name(value, "interface", MAX_NAME)


def _invalid_name(value: object, what: str, longest: int) -> InvalidTopologyError:
    return InvalidTopologyError(
        f"cannot use {value!r} as {what} name: a name has 1 to {longest} characters out of A-Z a-z 0-9 _ . - "
        "and starts with a letter or digit"
    )


def parse_interface_name(value: object) -> str:
    """Check the name of a new interface and return it."""
    name = parse_device_name(value)
    if name in RESERVED_INTERFACE_NAMES:
        raise InvalidTopologyError(f"cannot use {value!r} as interface name: the kernel reserves that name")
    return name


def parse_hostname(value: object) -> str:
    """Check a host name for /etc/hosts (RFC 1123, and underscores) and return it."""
    if isinstance(value, str) and HOSTNAME_PATTERN.fullmatch(value):
        return value
    raise InvalidTopologyError(
        f"cannot use {value!r} as host name: write labels of letters, digits and - joined by dots, such as 'api.example.com'"
    )


def parse_sysctl_name(value: object) -> str:
    """Check the name of a kernel setting of a network namespace and return it: ``"net.ipv4.ip_forward"``."""
    if isinstance(value, str) and SYSCTL_PATTERN.fullmatch(value):
        return value
    raise InvalidTopologyError(
        f"cannot use {value!r} as sysctl: only settings below 'net' belong to a namespace, such as 'net.ipv4.ip_forward'"
    )


def parse_sysctl_value(value: object) -> str:
    """Convert the value of a kernel setting to text: ``1`` and ``True`` become ``"1"``."""
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, str) and re.fullmatch(r"[ -~\t]+", value):
        return value
    raise InvalidTopologyError(f"cannot use {value!r} as value of a sysctl: write a number or one line of text")

"""Names of namespaces, interfaces, hosts and kernel settings, checked; pure."""

from __future__ import annotations

import re

from pytest_netns.errors import InvalidTopologyError

# Interface names are at most 15 bytes (IFNAMSIZ - 1, netdevice(7)); the kernel would also take names such as
# "$(id)" or "-x" and expands "a%d", so the allowed characters are narrower than the kernel's.
MAX_NAME = 15
INTERFACE_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
# A namespace's name is its programs' host name: at most 63 characters, as a label of a domain name, RFC 1035.
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
# "lo" is there already; the other two are directories of /proc/sys/net/*/conf, so the kernel refuses them.
RESERVED_INTERFACE_NAMES = ("lo", "all", "default")
HOSTNAME_PATTERN = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*")
# Only a setting below "net" is the namespace's own; any other would change the real machine.
SYSCTL_PATTERN = re.compile(r"net([./][A-Za-z0-9_:-][A-Za-z0-9_.:-]*)+")


def parse_name(value: object) -> str:
    """A valid name of a namespace, unchanged."""
    if isinstance(value, str) and NAME_PATTERN.fullmatch(value):
        return value
    raise _invalid_name(value, "namespace", 63)


def parse_device_name(value: object) -> str:
    """A valid name of an interface, unchanged; it may be one that every namespace has."""
    if isinstance(value, str) and INTERFACE_NAME_PATTERN.fullmatch(value):
        return value
    raise _invalid_name(value, "interface", MAX_NAME)


def _invalid_name(value: object, what: str, longest: int) -> InvalidTopologyError:
    return InvalidTopologyError(
        f"cannot use {value!r} as {what} name: a name has 1 to {longest} characters out of A-Z a-z 0-9 _ . - "
        "and starts with a letter or digit"
    )


def parse_interface_name(value: object) -> str:
    """A valid name of an interface yet to be made, unchanged."""
    name = parse_device_name(value)
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

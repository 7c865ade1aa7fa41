"""Default names and addresses of interfaces; pure."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Container
from ipaddress import IPv6Address

from pytest_netns.values.names import MAX_NAME


def default_interface_name(namespace: str, taken: Container[str]) -> str:
    """The default name of an interface: ``veth-red``, then ``veth-red-2``; shortened if too long.

    Args:
        namespace: the name of the interface's namespace.
        taken: the names of the existing interfaces of that namespace.
    """
    return _free_name(namespace, "", taken)


def bridge_side_name(namespace: str, taken: Container[str]) -> str:
    """The default name of the bridge's end of a port: ``veth-red-br``, then ``veth-red-br-2``; shortened if too long.

    Args:
        namespace: the name of the namespace at the other end.
        taken: the names of the existing interfaces of the bridge's namespace.
    """
    return _free_name(namespace, "-br", taken)


@functools.lru_cache(maxsize=1024)
def derived_mac(namespace: str, interface: str) -> str:
    """The default MAC address of an interface: the same in every test, so that caches in the test process stay valid.

    Locally administered and unicast, IEEE 802 section 8.4.
    """
    return f"02:{hashlib.sha256(f'{namespace} {interface}'.encode()).digest()[:5].hex(':')}"


def link_local_address(mac: str) -> IPv6Address:
    """The link-local address that the kernel derives from a MAC address, RFC 4291 appendix A."""
    raw = bytes.fromhex(mac.replace(":", ""))
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes((raw[0] ^ 2,)) + raw[1:3] + b"\xff\xfe" + raw[3:])


def _free_name(namespace: str, ending: str, taken: Container[str]) -> str:
    number = 1
    while True:
        suffix = ending if number == 1 else f"{ending}-{number}"
        room = MAX_NAME - len("veth-") - len(suffix)
        middle = namespace
        if len(namespace) > room:
            digest = hashlib.sha256(namespace.encode()).hexdigest()[:4]
            middle = namespace[: max(room - 4, 0)] + digest[:room]
        name = f"veth-{middle}{suffix}"
        if name not in taken:
            return name
        number += 1

"""Configure WireGuard interfaces: the kernel's generic netlink family "wireguard", linux/wireguard.h."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Any

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink import messages, wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.spaces.netns import NetworkNamespace

_NETLINK_GENERIC = 16
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2
_WG_CMD_SET_DEVICE, _WGPEER_F_REPLACE_ALLOWEDIPS = 1, 2
_GENERIC_HEADER = struct.Struct("=BBH")


def configure(network: NetworkNamespace, name: str, options: Mapping[str, Any]) -> None:
    """Set an interface's key, port and peers.

    Args:
        options: ``private_key``, ``listen_port``, ``fwmark``, and ``peers`` as in `parts`.

    Raises:
        KernelError: the kernel refused.
    """
    with network.entered():
        netlink = NetlinkSocket(network.name, _NETLINK_GENERIC)
    try:
        attributes = {"ifname": name, **options, "peers": [_peer(peer) for peer in options.get("peers", ())]}
        body = messages.body("wireguard", {"cmd": _WG_CMD_SET_DEVICE, "version": 1}, attributes)
        netlink.request(Request(("configure WireGuard interface", name), netlink.get(*_family()), body))
    finally:
        netlink.close()


def _family() -> tuple[Request, Any]:
    """The request for the family's id, and the parser of the answer."""
    body = _GENERIC_HEADER.pack(_CTRL_CMD_GETFAMILY, 1, 0) + wire.text(_CTRL_ATTR_FAMILY_NAME, "wireguard")
    return Request(("find the kernel's WireGuard",), _GENL_ID_CTRL, body), _parse_family


def _parse_family(body: bytes) -> int:
    family_id = wire.attributes(body, _GENERIC_HEADER.size).get(_CTRL_ATTR_FAMILY_ID)
    if family_id is None:
        raise KernelError("find the kernel's WireGuard", 0)
    return int(struct.unpack_from("=H", family_id)[0])


def _peer(options: Mapping[str, Any]) -> dict[str, Any]:
    peer = {name: options[name] for name in ("public_key", "preshared_key") if name in options}
    peer["flags"] = _WGPEER_F_REPLACE_ALLOWEDIPS
    if "endpoint" in options:
        address, port = options["endpoint"]
        peer["endpoint"] = {"addr": address, "port": port}
    if "persistent_keepalive" in options:
        peer["persistent_keepalive_interval"] = options["persistent_keepalive"]
    peer["allowedips"] = [
        {
            "family": socket.AF_INET if network.version == 4 else socket.AF_INET6,
            "ipaddr": network.network_address.packed,
            "cidr_mask": network.prefixlen,
        }
        for network in options["allowed_ips"]
    ]
    return peer

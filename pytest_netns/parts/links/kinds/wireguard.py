"""wireguard: an encrypted tunnel between peers that know each other's keys; pure."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.parts.links.kinds.kind import PORT, LinkKind, Option, number
from pytest_netns.values import parse_network, parse_target, suggest
from pytest_netns.values.shapes import is_mapping, is_several

_KEY_BYTES = 32
_PEER = ("public_key", "preshared_key", "endpoint", "allowed_ips", "persistent_keepalive")


def key(value: Any) -> str:
    """Parse a key as in wg(8): 32 bytes in base64."""
    try:
        if isinstance(value, str) and len(base64.b64decode(value, validate=True)) == _KEY_BYTES:
            return value
    except binascii.Error:
        pass
    raise InvalidTopologyError("cannot use this key: it is 32 bytes in base64, as 'wg genkey' writes it")


def peer(given: Any) -> dict[str, Any]:
    """Parse a peer, with the key names of wg(8)."""
    if not is_mapping(given) or "public_key" not in given:
        raise InvalidTopologyError(
            f"cannot use {given!r} as peer: use a mapping with public_key and {', '.join(_PEER[1:])}"
        )
    for name in given:
        if name not in _PEER:
            raise InvalidTopologyError(f"cannot use {name!r} of a peer: {suggest(name, _PEER)}")
    allowed = given.get("allowed_ips", ())
    several = allowed if is_several(allowed) else (allowed,)
    parsed: dict[str, Any] = {
        "public_key": key(given["public_key"]),
        "allowed_ips": [parse_network(each, "allowed network") for each in several],
    }
    if "preshared_key" in given:
        parsed["preshared_key"] = key(given["preshared_key"])
    if "persistent_keepalive" in given:
        parsed["persistent_keepalive"] = number(0, 65535)(given["persistent_keepalive"])
    if "endpoint" in given:
        endpoint = parse_target(given["endpoint"])
        if endpoint.port is None or isinstance(endpoint.host, str):
            raise InvalidTopologyError(
                f"cannot use '{endpoint}' as endpoint: write address and port, such as '192.0.2.1:51820'"
            )
        parsed["endpoint"] = (str(endpoint.host), endpoint.port)
    return parsed


def _peers(value: Any) -> list[dict[str, Any]]:
    if not is_several(value):
        raise InvalidTopologyError(f"cannot use {value!r} as peers: write a list of mappings")
    return [peer(each) for each in value]


KIND = LinkKind(
    "wireguard",
    options={
        "private_key": Option("private_key", key),
        "listen_port": Option("listen_port", PORT),
        "fwmark": Option("fwmark", number(0, 2**32 - 1)),
        "peers": Option("peers", _peers),
    },
    maker="wireguard",
    has_own_mac=False,
)

"""Bridge ports: their VLANs, and port isolation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.kernel.netlink import messages, rtlinks
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.lab.link import Link

_AF_BRIDGE, _RTM_SETLINK = 7, 19
# BRIDGE_FLAGS_SELF and BRIDGE_VLAN_INFO_ of linux/if_bridge.h
_SELF, _PVID, _UNTAGGED = 0x2, 0x2, 0x4
_FIRST_VLAN, _LAST_VLAN = 1, 4094


def parse_vlans(tag: object, trunks: object) -> tuple[int | None, tuple[int, ...]]:
    """The VLAN of untagged frames, and the VLANs of tagged ones."""
    several = tuple(trunks) if isinstance(trunks, Iterable) and not isinstance(trunks, str) else (trunks,)
    return None if tag is None else _parse_vlan(tag), tuple(_parse_vlan(each) for each in several)


def _parse_vlan(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and _FIRST_VLAN <= value <= _LAST_VLAN:
        return value
    raise InvalidTopologyError(f"cannot use {value!r} as VLAN: use a number from {_FIRST_VLAN} to {_LAST_VLAN}")


def set_vlans(port: Link, bridge: Link, tag: int | None, trunks: tuple[int, ...]) -> None:
    """Set the VLANs of a port or of the bridge itself.

    Args:
        tag: the VLAN of frames without a tag.
        trunks: the VLANs of frames with a tag.

    Raises:
        InvalidTopologyError: the bridge has no VLAN filtering.
    """
    if not _filters_vlans(bridge):
        raise InvalidTopologyError(
            f"cannot use tag or trunks on bridge {bridge.name!r}: it does not filter VLANs; add it with vlan_filtering=True"
        )
    is_bridge = port is bridge
    wanted = [{"vid": vlan} for vlan in trunks]
    wanted += [{"vid": tag, "flags": _PVID | _UNTAGGED}] if tag is not None else []
    numbers = {*trunks, tag}
    requests = [_request(rtlinks.RTM_DELLINK, port, [{"vid": 1}], is_bridge=is_bridge)] if 1 not in numbers else []
    port.home.change(*requests, _request(_RTM_SETLINK, port, wanted, is_bridge=is_bridge))


def isolate(port: Link) -> None:
    """Block traffic between a port and other isolated ports."""
    data = {"slave_kind": "bridge", "slave_data": {"isolated": 1}}
    body = messages.body("link", {"index": port.index}, {"linkinfo": data})
    port.home.change(Request(("isolate port", port.name), rtlinks.RTM_NEWLINK, body))


def _request(type_: int, port: Link, vlans: list[dict[str, int]], *, is_bridge: bool) -> Request:
    spec: dict[str, Any] = {"vlan_info": vlans}
    if is_bridge:
        spec["flags"] = _SELF
    body = messages.body("link", {"family": _AF_BRIDGE, "index": port.index}, {"af_spec": spec})
    return Request(("set VLANs of", port.name), type_, body)


def _filters_vlans(bridge: Link) -> bool:
    answer = bridge.home.netlink.get(rtlinks.get_link(bridge.index, bridge.name), bytes)
    data = messages.read("link", answer).get("linkinfo", {}).get("data", {})
    return bool(data.get("br_vlan_filtering"))

"""vlan: an IEEE 802.1Q VLAN of an interface; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, Option, flag, number, one_of

_FLAGS = {"reorder_hdr": 0x1, "gvrp": 0x2, "loose_binding": 0x4, "mvrp": 0x8, "bridge_binding": 0x10}


def _flags(name: str) -> Option:
    bit = _FLAGS[name]
    return Option("vlan_flags", lambda value: {"flags": bit * flag(value), "mask": bit})


KIND = LinkKind(
    "vlan",
    options={
        "id": Option("vlan_id", number(0, 4094)),
        "protocol": Option("vlan_protocol", one_of(_802_1q=0x8100, _802_1ad=0x88A8)),
        **{name: _flags(name) for name in _FLAGS},
    },
    needs=("link", "id"),
    example={"vlan_id": 10},
    describe=lambda options: f"VLAN {options.get('vlan_id')}",
    has_own_mac=False,
)

"""bond: several interfaces as one, IEEE 802.1AX or without; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_netns.parts.links.kinds.kind import BYTE, LinkKind, Option, number, one_of

_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")
_MILLISECONDS = number(0, 2**31 - 1)


def _describe(options: Mapping[str, Any]) -> str:
    mode = options.get("bond_mode", 0)
    return _MODES[mode] if isinstance(mode, int) and mode < len(_MODES) else ""


def _mode(value: Any) -> int:
    if isinstance(value, str) and value in _MODES:
        return _MODES.index(value)
    return one_of(
        **{f"_{number}": number for number in range(len(_MODES))},
        **{n.replace("-", "_"): i for i, n in enumerate(_MODES)},
    )(value)


KIND = LinkKind(
    "bond",
    options={
        "mode": Option("bond_mode", _mode),
        "miimon": Option("bond_miimon", _MILLISECONDS),
        "updelay": Option("bond_updelay", _MILLISECONDS),
        "downdelay": Option("bond_downdelay", _MILLISECONDS),
        "lacp_rate": Option("bond_ad_lacp_rate", one_of(slow=0, fast=1)),
        "xmit_hash_policy": Option(
            "bond_xmit_hash_policy", one_of(layer2=0, layer3_4=1, layer2_3=2, encap2_3=3, encap3_4=4)
        ),
        "min_links": Option("bond_min_links", BYTE),
    },
    example={"mode": "active-backup", "miimon": 100},
    describe=_describe,
    has_own_mac=False,
)

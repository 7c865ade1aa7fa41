"""ipvlan: an interface with its own IP addresses and the MAC address of its lower interface; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_netns.parts.links.kinds.kind import LinkKind, Option, one_of

_MODES = ("l2", "l3", "l3s")


def _describe(options: Mapping[str, Any]) -> str:
    mode: int = options.get("ipvlan_mode", 0)
    return _MODES[mode]


KIND = LinkKind(
    "ipvlan",
    options={"mode": Option("ipvlan_mode", one_of(l2=0, l3=1, l3s=2))},
    needs=("link",),
    example={"mode": "l2"},
    describe=_describe,
    has_own_mac=False,
)

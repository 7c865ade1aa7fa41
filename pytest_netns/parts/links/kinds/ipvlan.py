"""ipvlan: an interface with addresses of its own, and the MAC address of the one it is on; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, Option, one_of

_MODES = ("l2", "l3", "l3s")

KIND = LinkKind(
    "ipvlan",
    options={"mode": Option("ipvlan_mode", one_of(l2=0, l3=1, l3s=2))},
    needs=("link",),
    example={"mode": "l2"},
    words=lambda options: _MODES[options.get("ipvlan_mode", 0)],
    has_own_mac=False,
)

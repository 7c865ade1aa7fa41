"""macvlan: an interface with its own MAC address on a lower interface; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, Option, one_of

_MODE = one_of(private=1, vepa=2, bridge=4, passthru=8, source=16)

KIND = LinkKind(
    "macvlan",
    options={"mode": Option("macvlan_mode", lambda value: _MODE(value) and value)},
    needs=("link",),
    example={"mode": "bridge"},
    describe=lambda options: str(options.get("macvlan_mode", "")),
)

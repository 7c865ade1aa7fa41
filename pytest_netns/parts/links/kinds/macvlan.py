"""macvlan: an interface with a MAC address of its own on another; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, Option, one_of

_MODE = one_of(private=1, vepa=2, bridge=4, passthru=8, source=16)

KIND = LinkKind(
    "macvlan",
    options={"mode": Option("macvlan_mode", lambda value: _MODE(value) and value)},
    needs=("link",),
    example={"mode": "bridge"},
    words=lambda options: str(options.get("macvlan_mode", "")),
)

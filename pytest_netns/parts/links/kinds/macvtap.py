"""macvtap: like macvlan, for a program that reads frames from a device; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, Option, one_of

_MODE = one_of(private=1, vepa=2, bridge=4, passthru=8, source=16)

KIND = LinkKind(
    "macvtap",
    options={"mode": Option("macvtap_mode", lambda value: _MODE(value) and value)},
    needs=("link",),
    example={"mode": "bridge"},
    describe=lambda options: str(options.get("macvtap_mode", "")),
)

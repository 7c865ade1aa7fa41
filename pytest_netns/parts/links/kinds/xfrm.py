"""xfrm: an interface for IPsec, selected by its number; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import KEY, LinkKind, Option

KIND = LinkKind(
    "xfrm",
    options={"if_id": Option("xfrm_if_id", KEY)},
    needs=("if_id",),
    example={"if_id": 42},
    describe=lambda options: f"id {options.get('xfrm_if_id')}",
    has_own_mac=False,
)

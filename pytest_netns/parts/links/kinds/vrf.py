"""vrf: virtual routing and forwarding: its members use a separate routing table; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, Option, number

KIND = LinkKind(
    "vrf",
    options={"table": Option("vrf_table", number(1, 2**32 - 1))},
    needs=("table",),
    example={"vrf_table": 101},
    describe=lambda options: f"table {options.get('vrf_table')}",
)

"""ipip: IPv4 over IPv4, RFC 2003; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, to_remote, tunnel

KIND = LinkKind(
    "ipip",
    options=tunnel("ipip"),
    example={"local": "192.0.2.1", "remote": "192.0.2.2"},
    describe=to_remote("ipip"),
    has_own_mac=False,
)

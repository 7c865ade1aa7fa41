"""sit: IPv6 over IPv4, RFC 4213; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, to_remote, tunnel

KIND = LinkKind(
    "sit",
    options=tunnel("sit"),
    example={"local": "192.0.2.1", "remote": "192.0.2.2"},
    describe=to_remote("sit"),
    has_own_mac=False,
)

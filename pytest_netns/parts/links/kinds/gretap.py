"""gretap: Ethernet over GRE over IPv4, RFC 2784; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, keyed, to_remote, with_key_flags

KIND = LinkKind(
    "gretap",
    options=keyed("gre"),
    complete=with_key_flags("gre", 0x2000),
    example={"local": "192.0.2.1", "remote": "192.0.2.2"},
    describe=to_remote("gre"),
    has_own_mac=True,
)

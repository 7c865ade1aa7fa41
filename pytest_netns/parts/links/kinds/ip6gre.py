"""ip6gre: IP over GRE over IPv6, RFC 7676; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, keyed, to_remote, with_key_flags

KIND = LinkKind(
    "ip6gre",
    options=keyed("ip6gre", 6),
    complete=with_key_flags("ip6gre", 0x0020),  # in network byte order; pyroute2 has it in host order
    example={"local": "2001:db8::1", "remote": "2001:db8::2"},
    describe=to_remote("ip6gre"),
    has_own_mac=False,
)

"""ip6tnl: IP over IPv6, RFC 2473; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, Option, one_of, to_remote, tunnel

KIND = LinkKind(
    "ip6tnl",
    options=tunnel("ip6tnl", 6) | {"mode": Option("ip6tnl_proto", one_of(any=0, ipip6=4, ip6ip6=41))},
    example={"local": "2001:db8::1", "remote": "2001:db8::2"},
    describe=to_remote("ip6tnl"),
    has_own_mac=False,
)

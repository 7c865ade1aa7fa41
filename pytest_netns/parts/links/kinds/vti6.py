"""vti6: an interface for IPsec over IPv6; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, keyed, to_remote

_OPTIONS = {name: option for name, option in keyed("vti", 6).items() if name not in ("ttl", "tos")}

KIND = LinkKind(
    "vti6",
    options=_OPTIONS,
    example={"local": "2001:db8::1", "remote": "2001:db8::2"},
    describe=to_remote("vti"),
    has_own_mac=False,
)

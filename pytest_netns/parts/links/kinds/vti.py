"""vti: an interface for IPsec over IPv4; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, keyed, to_remote

_OPTIONS = {name: option for name, option in keyed("vti").items() if name not in ("ttl", "tos")}

KIND = LinkKind(
    "vti",
    options=_OPTIONS,
    example={"local": "192.0.2.1", "remote": "192.0.2.2"},
    describe=to_remote("vti"),
    has_own_mac=False,
)

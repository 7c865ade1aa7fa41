"""tun: packets that a program reads from and writes to /dev/net/tun; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, Option, flag, number

_ID = number(0, 2**32 - 2)

KIND = LinkKind(
    "tun",
    options={
        "user": Option("user", _ID),
        "group": Option("group", _ID),
        "multi_queue": Option("multi_queue", flag),
        "vnet_hdr": Option("vnet_hdr", flag),
        "pi": Option("pi", flag),
    },
    maker="tun",
    without="programs that open /dev/net/tun, such as VPNs, do not work",
    has_own_mac=False,
)

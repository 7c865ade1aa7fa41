"""geneve: Ethernet over UDP with options, RFC 8926; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import BYTE, PORT, LinkKind, Option, address, number

KIND = LinkKind(
    "geneve",
    options={
        "id": Option("id", number(0, 2**24 - 1)),
        "remote": Option("remote", address, for_ipv6="remote6"),
        "dstport": Option("port", PORT),
        "ttl": Option("ttl", BYTE),
        "tos": Option("tos", BYTE),
    },
    needs=("id", "remote"),
    example={"id": 42, "remote": "192.0.2.2"},
    describe=lambda options: f"VNI {options.get('id')}",
)

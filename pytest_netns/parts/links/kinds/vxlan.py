"""vxlan: Ethernet over UDP, RFC 7348; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import BYTE, PORT, LinkKind, Option, address, flag, number

KIND = LinkKind(
    "vxlan",
    options={
        "id": Option("vxlan_id", number(0, 2**24 - 1)),
        "remote": Option("vxlan_group", address, for_ipv6="vxlan_group6"),
        "group": Option("vxlan_group", address, for_ipv6="vxlan_group6"),
        "local": Option("vxlan_local", address, for_ipv6="vxlan_local6"),
        "dstport": Option("vxlan_port", PORT),
        "ttl": Option("vxlan_ttl", BYTE),
        "tos": Option("vxlan_tos", BYTE),
        "learning": Option("vxlan_learning", flag),
        "proxy": Option("vxlan_proxy", flag),
    },
    needs=("id",),
    example={"vxlan_id": 42, "dstport": 4789},
    describe=lambda options: f"VNI {options.get('vxlan_id')}",
)

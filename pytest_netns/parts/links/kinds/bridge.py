"""bridge, with options: a switch with spanning tree, VLANs, ageing; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind, Option, flag, number

_CENTISECONDS = number(0, 2**31 - 1)

KIND = LinkKind(
    "bridge",
    options={
        "stp": Option("br_stp_state", flag),
        "stp_state": Option("br_stp_state", flag),
        "vlan_filtering": Option("br_vlan_filtering", flag),
        "forward_delay": Option("br_forward_delay", _CENTISECONDS),
        "hello_time": Option("br_hello_time", _CENTISECONDS),
        "max_age": Option("br_max_age", _CENTISECONDS),
        "ageing_time": Option("br_ageing_time", _CENTISECONDS),
        "priority": Option("br_priority", number(0, 65535)),
        "mcast_snooping": Option("br_mcast_snooping", flag),
        "default_pvid": Option("br_vlan_default_pvid", number(0, 4094)),
    },
    without="only veth pairs work; netns_lan and netns_nat do not",
)

"""Settings that affect traffic and are easily overlooked, read from rtnetlink messages for reports; pure."""

from __future__ import annotations

import struct

from pytest_netns.kernel.netlink import wire

RTM_GETRULE = 34
_IFF_NOARP = 0x80
_IFLA_QDISC, _IFLA_LINKINFO, _IFLA_INFO_SLAVE_DATA = 6, 18, 5
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_IFLA_BR_STP_STATE, _IFLA_BR_VLAN_FILTERING, _IFLA_BRPORT_ISOLATED = 5, 7, 33
# The kernel's defaults, which do not delay packets.
_USUAL_QDISCS = {"", "noop", "noqueue", "mq", "pfifo_fast", "fq_codel", "fq"}
_IFINFO = struct.Struct("=BxHiII")  # family, device type, index, flags, change mask
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst len, src len, tos, table, protocol, scope, type, flags
_RULE = struct.Struct("=BBBBBxxBI")  # family, dst len, src len, tos, table, action, flags
_ACTIONS = {6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}  # RTN_ and FR_ACT_
_RT_TABLE_MAIN = 254
_USUAL_RULES = {0, 32766, 32767}  # priorities: local, main, default
_ETHERNET = 1  # ARPHRD_ETHER
_RTA_DST, _FRA_SRC, _FRA_PRIORITY, _FRA_TABLE, _FRA_FWMARK, _FRA_IIFNAME = 1, 2, 6, 15, 10, 3


def link_details(body: bytes) -> tuple[str, ...]:
    """Describe the details in an RTM_NEWLINK message: traffic control, ARP off, bridge settings, an isolated bridge port."""
    _, hardware, _, flags, _ = _IFINFO.unpack_from(body)
    attributes = wire.attributes(body, _IFINFO.size)
    details: list[str] = []
    qdisc = wire.read_text(attributes.get(_IFLA_QDISC, b""))
    if qdisc not in _USUAL_QDISCS:
        details.append(f"qdisc {qdisc}")
    if flags & _IFF_NOARP and hardware == _ETHERNET:
        details.append("ARP off")
    info = wire.attributes(attributes.get(_IFLA_LINKINFO, b""))
    if info.get(_IFLA_INFO_KIND) == b"bridge\0":
        bridge = wire.attributes(info.get(_IFLA_INFO_DATA, b""))
        details += ["STP"] * any(bridge.get(_IFLA_BR_STP_STATE, b""))
        details += ["VLAN-aware"] * any(bridge.get(_IFLA_BR_VLAN_FILTERING, b""))
    port = wire.attributes(info.get(_IFLA_INFO_SLAVE_DATA, b""))
    if port.get(_IFLA_BRPORT_ISOLATED, b"\0")[0]:
        details.append("isolated")
    return tuple(details)

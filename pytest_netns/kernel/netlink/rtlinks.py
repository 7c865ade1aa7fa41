"""Interfaces as rtnetlink requests and values: pure, rtnetlink(7)."""

from __future__ import annotations

import functools
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_netns.kernel.netlink import wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.wire import NLM_F_CREATE, NLM_F_EXCL, attribute, nested, text, u32

# The prefix of interfaces that lead to the user-space wire; users cannot choose a name with "~".
HIDDEN = "wire~"

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_GETNETCONF = 82

IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x1, 0x8, 0x40
IPV4_FORWARDING, IPV4_RP_FILTER, IPV4_ROUTE_LOCALNET = 1, 8, 26  # IPV4_DEVCONF_ of linux/ip.h
_IFINFO = struct.Struct("=BxHiII")  # family, device type, index, flags, change mask

(_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO) = (1, 3, 4, 5, 10, 18)
(_IFLA_STATS64, _IFLA_AF_SPEC, _IFLA_NET_NS_FD, _IFLA_LINK_NETNSID) = (23, 26, 28, 37)
_IFLA_GSO_MAX_SEGS = 40
_IFLA_NUM_TX_QUEUES, _IFLA_NUM_RX_QUEUES = 31, 32
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_IFLA_BR_STP_STATE = 5
_IFLA_INET_CONF = 1
_NETCONFA_IFINDEX, _NETCONFA_FORWARDING, _NETCONFA_RP_FILTER = 1, 2, 3
# Fallback tunnel devices, which the kernel adds to every network namespace and which cannot be deleted: net.core.fb_tunnels_only_for_init_net.
FALLBACK_TUNNELS = {
    "ipip": "tunl0",
    "gre": "gre0",
    "gretap": "gretap0",
    "erspan": "erspan0",
    "vti": "ip_vti0",
    "sit": "sit0",
    "ip6tnl": "ip6tnl0",
    "ip6gre": "ip6gre0",
    "vti6": "ip6_vti0",
}


@dataclass(frozen=True)
class LinkInfo:
    """An interface as the kernel describes it; ``peer_index`` is 0 if there is no peer."""

    index: int
    name: str
    mac: str
    mtu: int
    flags: int
    kind: str
    master: int
    peer_index: int
    peer_nsid: int | None
    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_dropped: int
    tx_dropped: int


def add_veth(
    name: str,
    index: int,
    peer_name: str,
    peer_index: int,
    peer_namespace: int,
    *,
    mtu: int | None = None,
    peer_mtu: int | None = None,
    mac: str | None = None,
    peer_mac: str | None = None,
    bridge: int = 0,
    up: bool = True,
    queues: int | None = None,
) -> Request:
    """Add a veth pair, one end here, the other in the namespace of a descriptor. The other is down: the kernel cannot create it up."""
    local = _link_attributes(name=name, mtu=mtu, mac=mac, bridge=bridge)
    peer = _link_attributes(name=peer_name, mtu=peer_mtu, mac=peer_mac) + u32(_IFLA_NET_NS_FD, peer_namespace)
    if queues is not None:
        number = u32(_IFLA_NUM_TX_QUEUES, queues) + u32(_IFLA_NUM_RX_QUEUES, queues)
        local, peer = local + number, peer + number
    kind = _kind("veth", nested(_VETH_INFO_PEER, _ifinfo(peer_index) + peer))
    description = ("add veth pair", f"{name},", peer_name)
    body = _ifinfo(index, up=up) + local + kind
    return Request(description, RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, creates_interface=True)


def add_bridge(name: str, index: int, *, mtu: int | None = None, mac: str | None = None) -> Request:
    """Add a bridge that is up and forwards at once, since STP is off (it would take 4 s to 30 s)."""
    kind = _kind("bridge", u32(_IFLA_BR_STP_STATE, 0))
    body = _ifinfo(index, up=True) + _link_attributes(name=name, mtu=mtu, mac=mac) + kind
    return Request(("add bridge", name), RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, creates_interface=True)


def set_link(
    index: int, name: str, *, up: bool | None = None, mtu: int | None = None, mac: str | None = None
) -> Request:
    """Change an interface; the name only serves the error message."""
    description: tuple[object, ...] = ("set", name, "up" if up else "down")
    if mtu is not None or mac is not None:
        description = ("set MTU of" if mtu is not None else "set MAC address of", name)
    return Request(description, RTM_NEWLINK, _ifinfo(index, up=up) + _link_attributes(mtu=mtu, mac=mac))


def disable_segmentation(index: int, name: str) -> Request:
    """Have packets segmented to the MTU before they reach an interface; the name only serves the error message."""
    return Request(("set segments of", name), RTM_NEWLINK, _ifinfo(index) + u32(_IFLA_GSO_MAX_SEGS, 1))


def set_master(index: int, name: str, master: int) -> Request:
    """Make an interface a member of a bridge, bond or VRF; 0 for none; the name only serves the error message."""
    return Request(("set master of", name), RTM_NEWLINK, _ifinfo(index) + u32(_IFLA_MASTER, master))


def move_link(index: int, name: str, namespace: int) -> Request:
    """Move an interface into the namespace of a descriptor; the name only serves the error message."""
    return Request(("move interface", name), RTM_NEWLINK, _ifinfo(index) + u32(_IFLA_NET_NS_FD, namespace))


def set_ipv4_settings(index: int, name: str, settings: Mapping[int, int]) -> Request:
    """Change an interface's net.ipv4.conf settings, by their IPV4_ numbers; the name only serves the error message."""
    values = nested(_IFLA_INET_CONF, *(u32(number, value) for number, value in settings.items()))
    body = _ifinfo(index) + nested(_IFLA_AF_SPEC, nested(socket.AF_INET, values))
    return Request(("set IPv4 settings of", name), RTM_NEWLINK, body)


def get_ipv4_settings(of: str) -> Request:
    """Read net.ipv4.conf of ``"all"`` interfaces or the ``"default"`` for new ones."""
    index = {"all": -1, "default": -2}[of]  # linux/netconf.h
    body = struct.pack("=BxxxHHi", socket.AF_INET, 8, _NETCONFA_IFINDEX, index)
    return Request(("read IPv4 settings of", of), RTM_GETNETCONF, body)


@functools.lru_cache(maxsize=16)  # the same for every new namespace
def parse_ipv4_settings(body: bytes) -> tuple[str, str] | None:
    """Parse forwarding and rp_filter from an RTM_NEWNETCONF message, as /proc/sys shows them; None if the kernel has not sent both."""
    settings = wire.attributes(body, 4)
    if _NETCONFA_FORWARDING not in settings or _NETCONFA_RP_FILTER not in settings:
        return None
    return str(wire.read_u32(settings[_NETCONFA_FORWARDING])), str(wire.read_u32(settings[_NETCONFA_RP_FILTER]))


def delete_link(index: int, name: str) -> Request:
    """Delete an interface; of a veth pair, both ends."""
    return Request(("delete interface", name), RTM_DELLINK, _ifinfo(index))


def get_link(index: int, name: str) -> Request:
    """One interface; the name only serves the error message."""
    return Request(("read interface", name), RTM_GETLINK, _ifinfo(index))


def dump_links() -> Request:
    """All interfaces."""
    return Request(("list interfaces",), RTM_GETLINK, _ifinfo(0))


def parse_link(body: bytes) -> LinkInfo:
    """Parse an RTM_NEWLINK message."""
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    attributes = wire.attributes(body, _IFINFO.size)
    info = wire.attributes(attributes.get(_IFLA_LINKINFO, b""))
    # rtnl_link_stats64: rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped
    statistics = struct.unpack_from("=8Q", attributes.get(_IFLA_STATS64, bytes(64)))
    peer_nsid = attributes.get(_IFLA_LINK_NETNSID)
    return LinkInfo(
        index=index,
        name=wire.read_text(attributes[_IFLA_IFNAME]),
        mac=format_mac(attributes.get(_IFLA_ADDRESS, b"")),
        mtu=wire.read_u32(attributes[_IFLA_MTU]),
        flags=flags,
        kind="loopback" if flags & IFF_LOOPBACK else wire.read_text(info.get(_IFLA_INFO_KIND, b"")),
        master=wire.read_u32(attributes.get(_IFLA_MASTER, bytes(4))),
        peer_index=wire.read_u32(attributes.get(_IFLA_LINK, bytes(4))),
        peer_nsid=None if peer_nsid is None else struct.unpack("=i", peer_nsid)[0],
        rx_packets=statistics[0],
        tx_packets=statistics[1],
        rx_bytes=statistics[2],
        tx_bytes=statistics[3],
        rx_dropped=statistics[6],
        tx_dropped=statistics[7],
    )


def parse_listed_link(body: bytes) -> LinkInfo | None:
    """Parse an RTM_NEWLINK message; None if the interface is not listed."""
    link = parse_link(body)
    return link if is_listed(link) else None


def is_listed(link: LinkInfo) -> bool:
    """Whether an interface is listed: neither an internal one of an impaired link, nor a fallback tunnel that is down."""
    unused_tunnel = FALLBACK_TUNNELS.get(link.kind) == link.name and not link.flags & IFF_UP
    return not unused_tunnel and not link.name.startswith(HIDDEN)


def kind_of(body: bytes) -> str:
    """The kind of interface in an RTM_NEWLINK message."""
    info = wire.attributes(wire.attributes(body, _IFINFO.size).get(_IFLA_LINKINFO, b""))
    return wire.read_text(info.get(_IFLA_INFO_KIND, b""))


def _ifinfo(index: int, *, up: bool | None = None) -> bytes:
    return _IFINFO.pack(socket.AF_UNSPEC, 0, index, IFF_UP if up else 0, 0 if up is None else IFF_UP)


def _link_attributes(*, name: str = "", mtu: int | None = None, mac: str | None = None, bridge: int = 0) -> bytes:
    parts = text(_IFLA_IFNAME, name) if name else b""
    if mtu is not None:
        parts += u32(_IFLA_MTU, mtu)
    if mac is not None:
        parts += attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))
    if bridge:
        parts += u32(_IFLA_MASTER, bridge)
    return parts


def _kind(kind: str, data: bytes) -> bytes:
    return nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, kind), nested(_IFLA_INFO_DATA, data))


def format_mac(raw: bytes) -> str:
    """Format a MAC address."""
    return raw.hex(":")

"""Messages to the kernel are, byte for byte, those of pyroute2; messages from the kernel are read the same."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from pytest_netns.kernel.netlink import rtaddresses, rtlinks, rtneighbours, rtnsid, rtroutes, wire
from pytest_netns.kernel.netlink.request import Request

PAYLOAD = 16  # bytes of a netlink header
NESTED = wire.NLA_F_NESTED


def encode(message: Any) -> bytes:
    """pyroute2's encoding of a message, without the header."""
    message.encode()
    return bytes(message.data[PAYLOAD:])


Attributes = list[tuple[int, bytes]]


def flat(body: bytes, offset: int) -> tuple[bytes, Attributes]:
    """A body as its fixed part and its attributes in any order; nested ones likewise, whether flagged as such or not."""
    return body[:offset], sorted((type_ & ~NESTED, payload) for type_, payload in _attributes(body[offset:]))


def _attributes(data: bytes) -> Attributes:
    found: Attributes = []
    while len(data) >= 4:
        length, type_ = struct.unpack_from("=HH", data)
        found.append((type_, data[4:length]))
        data = data[(length + 3) & ~3 :]
    assert not data
    return found


def link(index: int = 0, up: bool | None = None, **attributes: Any) -> bytes:
    message = ifinfmsg()
    message["index"] = index
    message["flags"], message["change"] = (1 if up else 0), (0 if up is None else 1)
    message["attrs"] = [[f"IFLA_{name.upper()}", value] for name, value in attributes.items()]
    return encode(message)


@pytest.mark.parametrize(
    ("request_", "oracle"),
    [
        (rtlinks.set_link(7, "x", up=True), link(7, True)),
        (rtlinks.set_link(7, "x", up=False), link(7, False)),
        (rtlinks.set_link(7, "x", mtu=1400), link(7, mtu=1400)),
        (rtlinks.set_link(7, "x", mac="02:00:00:00:00:01"), link(7, address="02:00:00:00:00:01")),
        (rtlinks.delete_link(7, "x"), link(7)),
        (rtlinks.get_link(7, "x"), link(7)),
        (rtlinks.dump_links(), link()),
    ],
)
def test_simple_requests(request_: Request, oracle: bytes) -> None:
    """Requests about one interface are the same bytes."""
    assert request_.body == oracle


def test_veth() -> None:
    """A veth pair: the same bytes, down to the peer's nested message, with the nested flag where rtnetlink expects it."""
    descriptor = os.open("/dev/null", os.O_RDONLY)
    try:
        request = rtlinks.add_veth(
            "veth-red", 101, "veth-blue", 102, descriptor, mtu=1400, peer_mtu=1300, mac="02:00:00:00:00:01", bridge=9
        )
        peer = {
            "index": 102,
            "attrs": [["IFLA_IFNAME", "veth-blue"], ["IFLA_MTU", 1300], ["IFLA_NET_NS_FD", descriptor]],
        }
        data = {"attrs": [["VETH_INFO_PEER", peer]]}
        kind = {"attrs": [["IFLA_INFO_KIND", "veth"], ["IFLA_INFO_DATA", data]]}
        oracle = link(101, True, ifname="veth-red", mtu=1400, address="02:00:00:00:00:01", master=9, linkinfo=kind)
    finally:
        os.close(descriptor)
    assert _without_flags(request.body, 16) == _without_flags(oracle, 16)


def test_bridge() -> None:
    """A bridge without spanning tree: the same content."""
    request = rtlinks.add_bridge("v-net-0", 101, mtu=1400)
    kind = {"attrs": [["IFLA_INFO_KIND", "bridge"], ["IFLA_INFO_DATA", {"attrs": [["IFLA_BR_STP_STATE", 0]]}]]}
    oracle = link(101, True, ifname="v-net-0", mtu=1400, linkinfo=kind)
    assert _without_flags(request.body, 16) == _without_flags(oracle, 16)


def _without_flags(body: bytes, offset: int) -> tuple[bytes, list[tuple[object, ...]]]:
    """A body with its link-info attributes expanded, without nested flags and a string's final NULs."""
    fixed, rest = flat(body, offset)
    opened: list[tuple[object, ...]] = []
    for type_, payload in rest:
        if type_ == 18:  # IFLA_LINKINFO
            info = {inner & ~NESTED: value for inner, value in _attributes(payload)}
            kind = info[1].rstrip(b"\0")
            data = [(inner & ~NESTED, value) for inner, value in _attributes(info[2])]
            opened.append(
                (type_, kind, [(inner, flat(value, 16)) for inner, value in data] if kind == b"veth" else data)
            )
        else:
            opened.append((type_, payload))
    return fixed, opened


@given(address=st.ip_addresses(), length=st.integers(0, 32), index=st.integers(1, 2**31 - 1))
def test_addresses(address: Any, length: int, index: int) -> None:
    """Any address of either family: the same bytes."""
    interface = ipaddress.ip_interface((int(address), length) if address.version == 6 else f"{address}/{length}")
    if interface.version != address.version:
        interface = ipaddress.IPv6Interface((int(address), length))
    message = ifaddrmsg()
    message["family"] = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    message["prefixlen"], message["index"] = length, index
    message["attrs"] = [["IFA_LOCAL", str(interface.ip)], ["IFA_ADDRESS", str(interface.ip)]]
    if interface.version == 6:
        message["attrs"].append(["IFA_FLAGS", 0x02])
    elif length < 31:
        message["attrs"].append(["IFA_BROADCAST", str(interface.network.broadcast_address)])
    oracle = encode(message)
    assert rtaddresses.add_address(index, "x", interface).body == oracle
    assert rtaddresses.remove_address(index, "x", interface).body == oracle
    assert rtaddresses.parse_address(oracle) == (index, interface)


@given(
    network=st.one_of(st.none(), st.ip_addresses(v=4).map(lambda each: ipaddress.ip_network(f"{each}/32"))),
    via=st.one_of(st.none(), st.ip_addresses(v=4)),
    index=st.one_of(st.none(), st.integers(1, 1000)),
    metric=st.one_of(st.none(), st.integers(1, 1000)),
)
def test_routes(network: Any, via: Any, index: int | None, metric: int | None) -> None:
    """Any IPv4 route: the same bytes, and read back the same."""
    message = rtmsg()
    message["family"], message["dst_len"] = socket.AF_INET, 0 if network is None else network.prefixlen
    message["table"], message["proto"], message["type"] = 254, 3, 1
    message["scope"] = 253 if via is None else 0
    values = {"DST": network and str(network.network_address), "GATEWAY": via and str(via), "OIF": index}
    message["attrs"] = [[f"RTA_{name}", value] for name, value in values.items() if value is not None]
    if metric is not None:
        message["attrs"].append(["RTA_PRIORITY", metric])
    oracle = encode(message)
    hops = (rtroutes.Hop(via, index or 0),) if via is not None or index is not None else ()
    route = rtroutes.RouteInfo(socket.AF_INET, network, hops, metric or 0)
    request = rtroutes.add_route(route)
    assert request.body == oracle
    found = rtroutes.parse_route(oracle)
    assert found is not None
    told = {"hops": hops if index else (), "destination": network, "metric": metric or 0, "table": 254, "type": 1}
    assert {name: getattr(found, name) for name in told} == told


def test_neighbours_are_read() -> None:
    """An entry encoded by pyroute2 is read correctly."""
    message = ndmsg()
    message["family"], message["ifindex"], message["state"] = socket.AF_INET, 5, 2
    message["attrs"] = [["NDA_DST", "192.168.15.2"], ["NDA_LLADDR", "02:00:00:00:00:02"]]
    message["attrs"].append(["NDA_CACHEINFO", {"ndm_confirmed": 1, "ndm_used": 2, "ndm_updated": 350, "ndm_refcnt": 4}])
    assert rtneighbours.parse_neighbour(encode(message)) == rtneighbours.NeighbourInfo(
        ipaddress.ip_address("192.168.15.2"), "02:00:00:00:00:02", 5, "reachable", 3.5
    )


def test_namespace_ids() -> None:
    """Watching a namespace: the same bytes, and the nsid is read back."""
    message = nsidmsg()
    message["attrs"] = [["NETNSA_NSID", 3], ["NETNSA_FD", 9]]
    oracle = encode(message)
    assert rtnsid.add_nsid(9, 3).body == oracle
    assert rtnsid.parse_nsid(oracle) == 3


def test_links_are_read() -> None:
    """An interface encoded by pyroute2 is read correctly."""
    body = link(5, True, ifname="eth0", mtu=1400, address="02:00:00:00:00:02", master=3)
    info = rtlinks.parse_link(body)
    assert (info.index, info.name, info.mtu, info.mac, info.master) == (5, "eth0", 1400, "02:00:00:00:00:02", 3)
    assert info.flags & rtlinks.IFF_UP


@given(bodies=st.lists(st.binary(max_size=64), max_size=5))
def test_messages_survive_the_way(bodies: list[bytes]) -> None:
    """Several messages in one datagram are read as sent."""
    data = b"".join(wire.message(20, 0, number, body) for number, body in enumerate(bodies))
    assert [(each.sequence, each.body) for each in wire.messages(data)] == list(enumerate(bodies))


@given(data=st.binary(max_size=128))
def test_torn_data_does_no_harm(data: bytes) -> None:
    """For any bytes, reading ends."""
    for message in wire.messages(data):
        wire.attributes(message.body)
    wire.attributes(data)


@pytest.mark.parametrize("capped", [True, False])
def test_the_kernels_words_are_found(capped: bool) -> None:
    """The extended acknowledgement is found after the request's header, or after the whole request."""
    request = wire.message(20, 0, 1, b"12345678")
    body = struct.pack("=i", -errno.EINVAL) + (request[:16] if capped else request) + wire.text(1, "no such thing")
    flags = wire.NLM_F_ACK_TLVS | (wire.NLM_F_CAPPED if capped else 0)
    assert wire.read_error(body, flags) == (errno.EINVAL, "no such thing")
    assert wire.read_error(body, 0) == (errno.EINVAL, "")

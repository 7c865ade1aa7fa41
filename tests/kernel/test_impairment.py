"""Impaired links: real packets are impaired as requested, and not otherwise. With both engines, by the option."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct
import time

import pytest

from pytest_netns import (
    LTE,
    BridgeSpec,
    Impairment,
    InvalidTopologyError,
    Lab,
    NetnsError,
    PortSpec,
    Topology,
    UnavailableError,
    VethEnd,
    VethPair,
    VethSpec,
)
from tests.support.impaired import PORT, A, B, arrived, numbers, round_trip
from tests.support.traffic import connection, listen, reaches

pytestmark = pytest.mark.kernels

SOL_PACKET, PACKET_AUXDATA, ETH_P_ALL = 263, 8, 3


def _has_netem() -> bool:
    """Whether the kernel has netem, according to tc."""
    with Lab("probe") as lab:
        done = lab.host.run("tc qdisc add dev lo root netem delay 1ms", check=False)
        return done.returncode == 0


@pytest.fixture
def link(netns: Lab) -> VethPair:
    """Red and blue joined by a veth pair; each has learned the other's MAC address."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    pair = netns.add_veth(red, blue, addresses=(f"{A}/24", f"{B}/24"))
    assert reaches(red, B)
    return pair


def engine_of(lab: Lab) -> str:
    """The engine, as named in the drawing."""
    found = re.search(r"\((netem|user-space wire)\)", lab.draw())
    assert found is not None
    return found[1]


# -- what happens to packets -----------------------------------------------------------------------


def test_a_link_is_slow_in_each_direction(link: VethPair) -> None:
    """No packet arrives before its delay is over: a round trip takes twice the delay."""
    link.impair(delay="50ms")
    assert round_trip(link.a.namespace, B) >= 100
    assert round_trip(link.b.namespace, A) >= 100


def test_an_interface_impairs_what_it_sends(link: VethPair) -> None:
    """Received packets are not impaired."""
    link.a.impair(loss="100%")
    assert numbers(link, 5) == []
    back = VethPair(link.b, link.a)
    with (
        listen(link.a.namespace, PORT, socket.SOCK_DGRAM) as server,
        back.a.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.sendto(b"\0\0\0\7", (A, PORT))
        assert list(arrived(server, 1)) == [7]
    assert link.a.impairment == Impairment(loss=1)
    assert link.b.impairment is None


def test_loss(link: VethPair) -> None:
    """Some packets arrive, some do not, and those that do are in order."""
    link.impair(loss="50%")
    arrived = numbers(link, 200)
    assert 0 < len(arrived) < 200
    assert arrived == sorted(arrived)


def test_duplicates(link: VethPair) -> None:
    """Each packet arrives twice."""
    link.impair(duplicate="100%")
    assert sorted(numbers(link, 20, expected=40)) == sorted([*range(20), *range(20)])


def test_reordering(link: VethPair) -> None:
    """Packets that are not delayed overtake delayed ones; none is lost."""
    link.impair(delay="50ms", reorder="50%")
    arrived = numbers(link, 100, expected=100)
    assert sorted(arrived) == list(range(100))
    assert arrived != sorted(arrived)


def test_jitter(link: VethPair) -> None:
    """Delays differ, so packets overtake each other; none is lost, and none is earlier than the minimum delay."""
    link.impair(delay="50ms", jitter="20ms")
    arrived = numbers(link, 100, expected=100)
    assert sorted(arrived) == list(range(100))
    assert arrived != sorted(arrived)
    assert round_trip(link.a.namespace, B) >= 60


def test_wrong_bits(netns: Lab, link: VethPair) -> None:
    """A packet with a bit error arrives at the interface, where a checksum reveals it."""
    with netns.capture() as packets:
        link.a.impair(corrupt="100%")
        arrived = numbers(link, 50)
    assert arrived == sorted(arrived)
    assert len(arrived) < 25  # a bit error in the sender's MAC address, for example, has no effect
    received = [each for each in packets if each.namespace == "blue" and not each.sent]
    assert len(received) >= 50


def test_rate(link: VethPair) -> None:
    """Packets sent at once arrive no faster than the rate."""
    link.impair(rate="1mbit")
    began = time.monotonic()
    assert numbers(link, 50, size=1400, expected=50) == list(range(50))
    assert time.monotonic() - began >= (50 - 3) * 1442 * 8 / 1e6


def test_a_full_queue_loses(link: VethPair) -> None:
    """Of packets sent at once, those beyond the queue limit are lost."""
    link.impair(delay="300ms", limit=5)
    assert 1 <= len(numbers(link, 50)) <= 6


def test_large_transfers_arrive_whole(link: VethPair) -> None:
    """Large segments (TSO, GSO) arrive unchanged, packet by packet."""
    link.impair(delay="2ms", limit=10_000)
    data = os.urandom(1 << 20)
    with listen(link.b.namespace, PORT) as server, connection(link.a.namespace, B, PORT, server) as (near, far, _):
        sent = 0
        received = b""
        near.setblocking(False)
        while len(received) < len(data):
            with contextlib.suppress(BlockingIOError):
                sent += near.send(data[sent : sent + (1 << 16)]) if sent < len(data) else 0
            if sent == len(data) or sent - len(received) > 1 << 16:
                received += far.recv(1 << 16)
    assert received == data


@pytest.mark.parametrize("mtu", [1500, 9000])
def test_frames_of_all_sizes(netns: Lab, link: VethPair, mtu: int) -> None:
    """The MTU can have any value, and can change while the link is impaired."""
    link.impair(delay="1ms")
    for end in link:
        end.mtu = mtu
    assert link.a.namespace.run(["ping", "-c1", "-W2", "-Mdo", f"-s{mtu - 28}", B]).returncode == 0


def test_vlan_tags_and_unknown_protocols(netns: Lab, link: VethPair) -> None:
    """A frame arrives as it was sent, whatever its contents."""
    link.impair(delay="1ms")
    frames = [
        bytes.fromhex("ffffffffffff020000000001") + struct.pack("!HHH", 0x8100, 7, 0x88B5) + bytes(50),
        bytes.fromhex("ffffffffffff020000000001") + struct.pack("!H", 0x88B5) + bytes(range(60)),
    ]
    out, into = (each.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) for each in link)
    with out, into:
        out.bind((link.a.name, 0))
        into.setsockopt(
            SOL_PACKET, PACKET_AUXDATA, 1
        )  # the kernel removes the tag from the frame, and reports it there
        into.settimeout(5)
        into.bind((link.b.name, ETH_P_ALL))
        for frame in frames:
            out.send(frame)
        for frame, tag in zip(frames, (7, 0), strict=True):
            data = b""
            while data[12:14] != b"\x88\xb5":  # IPv6 sends packets now and then
                data, ancillary, _, _ = into.recvmsg(2000, 100)
            assert data == (frame[:12] + frame[16:] if tag else frame)
            assert struct.unpack_from("=16xH", ancillary[0][2])[0] == tag


def test_one_after_another(netns: Lab) -> None:
    """A packet that leaves by several impaired interfaces, here a bridge and its port, is delayed by each."""
    red = netns.add_namespace("red")
    bridge = netns.add_bridge("v-net-0", "192.168.15.5/24")
    port = bridge.attach(red, f"{A}/24")
    assert port.peer is not None
    bridge.impair(delay="50ms")
    port.peer.impair(delay="50ms")
    assert round_trip(netns.host, A) >= 100


# -- adding, changing, removing ---------------------------------------------------------------------


def identity(link: VethPair) -> list[object]:
    """The properties that impairing a link must not change."""
    return [
        (each.name, each.index, each.mac, each.mtu, each.is_up, each.addresses, each.namespace.routes())
        for each in link
    ] + [list(each.namespace.interfaces) for each in link]


def test_nothing_else_changes(netns: Lab, link: VethPair) -> None:
    """Names, indexes, MAC addresses, addresses, routes and an open connection survive it."""
    before = identity(link)
    with listen(link.b.namespace, PORT) as server, connection(link.a.namespace, B, PORT, server) as (near, far, _):
        for change in (
            lambda: link.impair(delay="20ms", loss="10%"),
            lambda: link.impair(rate="10mbit"),
            link.heal,
            lambda: link.impair(LTE),
            link.heal,
        ):
            change()
            near.sendall(b"there")
            assert far.recv(5, socket.MSG_WAITALL) == b"there"
            far.sendall(b"back")
            assert near.recv(4, socket.MSG_WAITALL) == b"back"
            assert identity(link) == before


def test_what_is_read_is_what_was_given(link: VethPair) -> None:
    """impairment is the value in force; for a veth pair only if both directions agree."""
    assert link.impairment is None
    link.impair("LTE")
    assert link.impairment == link.a.impairment == LTE
    link.b.impair(delay="1s")
    with pytest.raises(NetnsError, match="read it at its ends"):
        _ = link.impairment
    link.heal()
    assert link.impairment is None


def test_healing_ends_it(link: VethPair) -> None:
    """After heal() every packet arrives; healing again is no error."""
    link.impair(loss="100%")
    assert not reaches(link.a.namespace, B)
    link.heal()
    link.heal()
    assert numbers(link, 50, expected=50) == list(range(50))


def test_a_block_ends_it(link: VethPair) -> None:
    """At the end of the block the previous impairment is restored, even if the block fails."""
    link.impair(delay="1ms")
    with link.impair(loss="100%"):
        assert not reaches(link.a.namespace, B)
    assert link.impairment == Impairment(delay="1ms")
    with pytest.raises(ZeroDivisionError), link.impair(loss="100%"):
        _ = 1 / 0
    assert link.impairment == Impairment(delay="1ms")
    with link.a.impair(LTE):
        assert link.a.impairment == LTE
    assert link.a.impairment == Impairment(delay="1ms")


def test_wrong_values_change_nothing(netns: Lab, link: VethPair) -> None:
    """After a mistake the previous impairment is in force, and no interface is left behind."""
    link.impair(delay="1ms")
    with pytest.raises(InvalidTopologyError, match="cannot use '3 bananas' as delay"):
        link.impair(delay="3 bananas")
    assert link.impairment == Impairment(delay="1ms")
    with pytest.raises(InvalidTopologyError, match="did you mean 'LTE'"):
        netns.add_veth(link.a.namespace, link.b.namespace, impairment="LTEX")
    assert list(link.a.namespace.interfaces) == ["lo", "veth-red"]


def test_an_impaired_link_can_be_deleted(netns: Lab, link: VethPair) -> None:
    """A new link in its place is perfect, and can be impaired."""
    red, blue = link.a.namespace, link.b.namespace
    link.impair(loss="100%")
    link.delete()
    again = netns.add_veth(red, blue, addresses=(f"{A}/24", f"{B}/24"))
    assert again.impairment is None
    assert reaches(red, B)
    again.impair(delay="20ms")
    assert round_trip(red, B) >= 40


# -- from the start --------------------------------------------------------------------------------


def test_bridges_and_links_that_are_impaired_from_the_start(netns: Lab) -> None:
    """attach() and add_veth() take an impairment, for the link in each direction."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    bridge = netns.add_bridge("v-net-0", "192.168.15.5/24")
    port = bridge.attach(red, f"{A}/24", impairment=Impairment(delay="20ms"))
    assert port.peer is not None
    assert port.impairment == port.peer.impairment == Impairment(delay="20ms")
    bridge.attach(blue, f"{B}/24")
    assert round_trip(red, B) >= 40
    pair = netns.add_veth(red, blue, impairment=LTE)
    assert pair.impairment == LTE


def test_a_topology(netns: Lab) -> None:
    """Veth pairs, ends and ports of a topology are impaired as specified, and drawings agree."""
    topology = Topology(
        veths=[
            VethSpec([VethEnd("a", address="10.0.0.1/24"), VethEnd("b", address="10.0.0.2/24")], impairment="DSL"),
            VethSpec([VethEnd("a", name="one-way", impairment={"loss": 1}), VethEnd("b", name="back")]),
        ],
        bridges=[
            BridgeSpec("br", subnet="10.1.0.0/24", ports=[PortSpec("a", name="port", impairment={"delay": 0.02})])
        ],
    )
    netns.build(topology)
    a, b = netns["a"].interfaces, netns["b"].interfaces
    assert a["veth-a"].impairment == b["veth-b"].impairment == Impairment(delay="25ms", rate="1.5mbit")
    assert a["one-way"].impairment == Impairment(loss=1)
    assert b["back"].impairment is None
    assert a["port"].impairment == Impairment(delay=0.02)
    assert round_trip(netns["a"], "10.0.0.2") >= 50
    for drawing in (topology.draw(), netns.draw()):
        assert "sends: delay 25ms, rate 1.5mbit" in drawing
        assert "one-way  sends: loss 100%" in drawing


# -- effects on captures ---------------------------------------------------------------------------


def test_packets_are_captured_once(netns: Lab, link: VethPair) -> None:
    """As with netem, the sender's capture shows a packet when it leaves the link, and shows no lost ones."""
    link.impair(delay="5ms")
    with netns.capture() as packets:
        assert reaches(link.a.namespace, B)
    assert [each.namespace for each in packets if each.protocol == "icmp"] == ["red", "blue", "blue", "red"]
    link.impair(loss="100%")
    with netns.capture() as packets:
        assert not reaches(link.a.namespace, B)
    assert not [each for each in packets if each.protocol == "icmp"]


def test_the_same_seed_loses_the_same_packets(netns: Lab, link: VethPair) -> None:
    """With a seed, the same packets of the same sequence are lost again; with another seed, others are."""
    link.a.impair(loss="50%", seed=7)
    first = numbers(link, 100)
    link.a.impair(loss="50%", seed=7)
    # netem has a seed since Linux 6.6
    is_repeatable = engine_of(netns) != "netem" or tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 6)
    assert (numbers(link, 100) == first) is is_repeatable
    link.a.impair(loss="50%", seed=8)
    assert numbers(link, 100) != first


# -- engines ---------------------------------------------------------------------------------------


def test_an_engine_that_is_not_there(link: VethPair) -> None:
    """With engine netem on a kernel without it, the error names the command that loads it."""
    with Lab("test", engine="netem") as lab:
        red, blue = lab.add_namespace("red"), lab.add_namespace("blue")
        pair = lab.add_veth(red, blue)
        if _has_netem():
            pair.impair(delay="1ms")
            assert engine_of(lab) == "netem"
        else:
            with pytest.raises(UnavailableError) as caught:
                pair.impair(delay="1ms")
            assert caught.value.remedy.startswith("sudo modprobe -a sch_netem sch_tbf")
            assert pair.impairment is None
            assert list(red.interfaces) == ["lo", "veth-red"]


def test_a_closed_lab(link: VethPair) -> None:
    """Links cannot be impaired once the lab is closed."""
    link.a.namespace.lab.close()
    with pytest.raises(NetnsError, match="closed"):
        link.impair(delay="1ms")


def test_errno_of_a_missing_interface(link: VethPair) -> None:
    """For an interface that a program has deleted, the error is the kernel's."""
    link.a.namespace.run("ip link delete veth-red")
    with pytest.raises(OSError) as caught:
        link.a.impair(delay="1ms")
    assert caught.value.errno == errno.ENODEV

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
def cable(netns: Lab) -> VethPair:
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


def test_a_cable_is_slow_in_each_direction(cable: VethPair) -> None:
    """No packet arrives before its delay is over: a round trip takes twice the delay."""
    cable.impair(delay="50ms")
    assert round_trip(cable.a.namespace, B) >= 100
    assert round_trip(cable.b.namespace, A) >= 100


def test_an_interface_impairs_what_it_sends(cable: VethPair) -> None:
    """Received packets are not impaired."""
    cable.a.impair(loss="100%")
    assert numbers(cable, 5) == []
    back = VethPair(cable.b, cable.a)
    with (
        listen(cable.a.namespace, PORT, socket.SOCK_DGRAM) as server,
        back.a.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.sendto(b"\0\0\0\7", (A, PORT))
        assert list(arrived(server, 1)) == [7]
    assert cable.a.impairment == Impairment(loss=1)
    assert cable.b.impairment is None


def test_loss(cable: VethPair) -> None:
    """Some packets arrive, some do not, and those that do are in order."""
    cable.impair(loss="50%")
    arrived = numbers(cable, 200)
    assert 0 < len(arrived) < 200
    assert arrived == sorted(arrived)


def test_duplicates(cable: VethPair) -> None:
    """Each packet arrives twice."""
    cable.impair(duplicate="100%")
    assert sorted(numbers(cable, 20, expected=40)) == sorted([*range(20), *range(20)])


def test_reordering(cable: VethPair) -> None:
    """Packets that are not delayed overtake delayed ones; none is lost."""
    cable.impair(delay="50ms", reorder="50%")
    arrived = numbers(cable, 100, expected=100)
    assert sorted(arrived) == list(range(100))
    assert arrived != sorted(arrived)


def test_jitter(cable: VethPair) -> None:
    """Delays differ, so packets overtake each other; none is lost, and none is earlier than the minimum delay."""
    cable.impair(delay="50ms", jitter="20ms")
    arrived = numbers(cable, 100, expected=100)
    assert sorted(arrived) == list(range(100))
    assert arrived != sorted(arrived)
    assert round_trip(cable.a.namespace, B) >= 60


def test_wrong_bits(netns: Lab, cable: VethPair) -> None:
    """A packet with a bit error arrives at the interface, where a checksum reveals it."""
    with netns.capture() as packets:
        cable.a.impair(corrupt="100%")
        arrived = numbers(cable, 50)
    assert arrived == sorted(arrived)
    assert len(arrived) < 25  # a bit error in the sender's MAC address, for example, has no effect
    received = [each for each in packets if each.namespace == "blue" and not each.sent]
    assert len(received) >= 50


def test_rate(cable: VethPair) -> None:
    """Packets sent at once arrive no faster than the rate."""
    cable.impair(rate="1mbit")
    began = time.monotonic()
    assert numbers(cable, 50, size=1400, expected=50) == list(range(50))
    assert time.monotonic() - began >= (50 - 3) * 1442 * 8 / 1e6


def test_a_full_queue_loses(cable: VethPair) -> None:
    """Of packets sent at once, those beyond the queue limit are lost."""
    cable.impair(delay="300ms", limit=5)
    assert 1 <= len(numbers(cable, 50)) <= 6


def test_large_transfers_arrive_whole(cable: VethPair) -> None:
    """Large segments (TSO, GSO) arrive unchanged, packet by packet."""
    cable.impair(delay="2ms", limit=10_000)
    data = os.urandom(1 << 20)
    with listen(cable.b.namespace, PORT) as server, connection(cable.a.namespace, B, PORT, server) as (near, far, _):
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
def test_frames_of_all_sizes(netns: Lab, cable: VethPair, mtu: int) -> None:
    """The MTU can have any value, and can change while the link is impaired."""
    cable.impair(delay="1ms")
    for end in cable:
        end.mtu = mtu
    assert cable.a.namespace.run(["ping", "-c1", "-W2", "-Mdo", f"-s{mtu - 28}", B]).returncode == 0


def test_vlan_tags_and_unknown_protocols(netns: Lab, cable: VethPair) -> None:
    """A frame arrives as it was sent, whatever its contents."""
    cable.impair(delay="1ms")
    frames = [
        bytes.fromhex("ffffffffffff020000000001") + struct.pack("!HHH", 0x8100, 7, 0x88B5) + bytes(50),
        bytes.fromhex("ffffffffffff020000000001") + struct.pack("!H", 0x88B5) + bytes(range(60)),
    ]
    out, into = (each.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) for each in cable)
    with out, into:
        out.bind((cable.a.name, 0))
        into.setsockopt(
            SOL_PACKET, PACKET_AUXDATA, 1
        )  # the kernel removes the tag from the frame, and reports it there
        into.settimeout(5)
        into.bind((cable.b.name, ETH_P_ALL))
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


def identity(cable: VethPair) -> list[object]:
    """The properties that impairing a link must not change."""
    return [
        (each.name, each.index, each.mac, each.mtu, each.is_up, each.addresses, each.namespace.routes())
        for each in cable
    ] + [list(each.namespace.interfaces) for each in cable]


def test_nothing_else_changes(netns: Lab, cable: VethPair) -> None:
    """Names, indexes, MAC addresses, addresses, routes and an open connection survive it."""
    before = identity(cable)
    with listen(cable.b.namespace, PORT) as server, connection(cable.a.namespace, B, PORT, server) as (near, far, _):
        for change in (
            lambda: cable.impair(delay="20ms", loss="10%"),
            lambda: cable.impair(rate="10mbit"),
            cable.heal,
            lambda: cable.impair(LTE),
            cable.heal,
        ):
            change()
            near.sendall(b"there")
            assert far.recv(5, socket.MSG_WAITALL) == b"there"
            far.sendall(b"back")
            assert near.recv(4, socket.MSG_WAITALL) == b"back"
            assert identity(cable) == before


def test_what_is_read_is_what_was_given(cable: VethPair) -> None:
    """impairment is the value in force; for a veth pair only if both directions agree."""
    assert cable.impairment is None
    cable.impair("LTE")
    assert cable.impairment == cable.a.impairment == LTE
    cable.b.impair(delay="1s")
    with pytest.raises(NetnsError, match="read it at its ends"):
        _ = cable.impairment
    cable.heal()
    assert cable.impairment is None


def test_healing_ends_it(cable: VethPair) -> None:
    """After heal() every packet arrives; healing again is no error."""
    cable.impair(loss="100%")
    assert not reaches(cable.a.namespace, B)
    cable.heal()
    cable.heal()
    assert numbers(cable, 50, expected=50) == list(range(50))


def test_a_block_ends_it(cable: VethPair) -> None:
    """At the end of the block the previous impairment is restored, even if the block fails."""
    cable.impair(delay="1ms")
    with cable.impair(loss="100%"):
        assert not reaches(cable.a.namespace, B)
    assert cable.impairment == Impairment(delay="1ms")
    with pytest.raises(ZeroDivisionError), cable.impair(loss="100%"):
        _ = 1 / 0
    assert cable.impairment == Impairment(delay="1ms")
    with cable.a.impair(LTE):
        assert cable.a.impairment == LTE
    assert cable.a.impairment == Impairment(delay="1ms")


def test_wrong_values_change_nothing(netns: Lab, cable: VethPair) -> None:
    """After a mistake the previous impairment is in force, and no interface is left behind."""
    cable.impair(delay="1ms")
    with pytest.raises(InvalidTopologyError, match="cannot use '3 bananas' as delay"):
        cable.impair(delay="3 bananas")
    assert cable.impairment == Impairment(delay="1ms")
    with pytest.raises(InvalidTopologyError, match="did you mean 'LTE'"):
        netns.add_veth(cable.a.namespace, cable.b.namespace, impairment="LTEX")
    assert list(cable.a.namespace.interfaces) == ["lo", "veth-red"]


def test_an_impaired_cable_can_be_deleted(netns: Lab, cable: VethPair) -> None:
    """A new link in its place is perfect, and can be impaired."""
    red, blue = cable.a.namespace, cable.b.namespace
    cable.impair(loss="100%")
    cable.delete()
    again = netns.add_veth(red, blue, addresses=(f"{A}/24", f"{B}/24"))
    assert again.impairment is None
    assert reaches(red, B)
    again.impair(delay="20ms")
    assert round_trip(red, B) >= 40


# -- from the start --------------------------------------------------------------------------------


def test_bridges_and_cables_that_are_impaired_from_the_start(netns: Lab) -> None:
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


def test_packets_are_captured_once(netns: Lab, cable: VethPair) -> None:
    """As with netem, the sender's capture shows a packet when it leaves the link, and shows no lost ones."""
    cable.impair(delay="5ms")
    with netns.capture() as packets:
        assert reaches(cable.a.namespace, B)
    assert [each.namespace for each in packets if each.protocol == "icmp"] == ["red", "blue", "blue", "red"]
    cable.impair(loss="100%")
    with netns.capture() as packets:
        assert not reaches(cable.a.namespace, B)
    assert not [each for each in packets if each.protocol == "icmp"]


def test_the_same_seed_loses_the_same_packets(netns: Lab, cable: VethPair) -> None:
    """With a seed, the same packets of the same sequence are lost again; with another seed, others are."""
    cable.a.impair(loss="50%", seed=7)
    first = numbers(cable, 100)
    cable.a.impair(loss="50%", seed=7)
    # netem has a seed since Linux 6.6
    is_repeatable = engine_of(netns) != "netem" or tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 6)
    assert (numbers(cable, 100) == first) is is_repeatable
    cable.a.impair(loss="50%", seed=8)
    assert numbers(cable, 100) != first


# -- engines ---------------------------------------------------------------------------------------


def test_an_engine_that_is_not_there(cable: VethPair) -> None:
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


def test_a_closed_lab(cable: VethPair) -> None:
    """Links cannot be impaired once the lab is closed."""
    cable.a.namespace.lab.close()
    with pytest.raises(NetnsError, match="closed"):
        cable.impair(delay="1ms")


def test_errno_of_a_missing_interface(cable: VethPair) -> None:
    """For an interface that a program has deleted, the error is the kernel's."""
    cable.a.namespace.run("ip link delete veth-red")
    with pytest.raises(OSError) as caught:
        cable.a.impair(delay="1ms")
    assert caught.value.errno == errno.ENODEV

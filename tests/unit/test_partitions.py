"""Shapes of partitions, and the packets each namespace drops for a cut: pure."""

from __future__ import annotations

import random
from ipaddress import ip_address

import pytest

from pytest_netns import InvalidTopologyError, partitions
from pytest_netns.faults import filters
from pytest_netns.faults.members import Node

CLUSTER = ["n1", "n2", "n3", "n4", "n5"]


def seen(groups: list[list[str]]) -> dict[str, set[str]]:
    """The members that each member reaches, including itself."""
    names = {name for group in groups for name in group}
    apart = set(filters.pairs_of(groups))
    return {a: {b for b in names if (a, b) not in apart} for a in names}


def test_halves_and_majority() -> None:
    """Halves differ by at most one; a majority is more than half, and leaves at least one in the minority."""
    assert partitions.halves(CLUSTER) == [["n1", "n2"], ["n3", "n4", "n5"]]
    assert partitions.majority(CLUSTER) == [["n1", "n2", "n3"], ["n4", "n5"]]
    assert partitions.majority(["n1", "n2"]) == [["n1"], ["n2"]]
    assert partitions.isolated(CLUSTER) == [["n1"], ["n2", "n3", "n4", "n5"]]


def test_bridge() -> None:
    """One member reaches all; the two sides do not reach each other."""
    view = seen(partitions.bridge(CLUSTER))
    assert [name for name, others in view.items() if others == set(CLUSTER)] == ["n3"]
    assert "n5" not in view["n1"]


@pytest.mark.parametrize("count", range(4, 12))
def test_majorities_ring(count: int) -> None:
    """Each reaches a majority, and no two reach the same; none reaches all, except where four or more neighbours must."""
    members = [f"n{n}" for n in range(count)]
    view = seen(partitions.majorities_ring(members))
    assert all(len(others) > count / 2 for others in view.values())
    assert len({frozenset(others) for others in view.values()}) == count


def test_shuffled_by_the_random_numbers_given() -> None:
    """The same random numbers choose the same groups, others choose others."""
    first, again = (partitions.isolated(CLUSTER, random.Random(7)) for _ in range(2))
    assert first == again
    assert len({partitions.isolated(CLUSTER, random.Random(seed))[0][0] for seed in range(20)}) > 1


@pytest.mark.parametrize("shape", [partitions.halves, partitions.bridge, partitions.majorities_ring])
def test_too_few_members(shape: object) -> None:
    """The error of a shape names its minimum number of members."""
    with pytest.raises(InvalidTopologyError, match="cannot partition 1 namespaces in this shape: it needs"):
        shape(["n1"])  # type: ignore[operator]


def node(name: str, mac: str, *addresses: str, ports: frozenset[str] = frozenset(), more: int = 0) -> Node:
    """A namespace with one or more interfaces."""
    interfaces = ("eth0", *(f"eth{n + 1}" for n in range(more)))
    return Node(name, frozenset([mac]), tuple(map(ip_address, addresses)), interfaces, ports)


def test_a_cut_drops_frames_and_packets_of_the_sender_where_they_arrive() -> None:
    """By MAC address on the same segment, by IP address of either family across routers; only for namespaces that are cut off."""
    nodes = {
        "a": node("a", "02:00:00:00:00:0a", "10.0.0.1", "fd00::1"),
        "b": node("b", "02:00:00:00:00:0b", "10.0.0.2"),
    }
    (name, chosen), *others = filters.cut(nodes, [("a", "b")]).items()
    assert (name, others) == ("b", [])
    text = chosen.text("t")
    assert "ether saddr { 02:00:00:00:00:0a } counter drop" in text
    assert "ip saddr { 10.0.0.1 } counter drop" in text
    assert "ip6 saddr { fd00::1 } counter drop" in text
    assert 'hook ingress devices = { "eth0" }' in text


def test_ports_of_a_bridge_are_passed_by_frames_for_others() -> None:
    """If a namespace is also a switch, only packets for itself are dropped: at the bridge, not at its ports."""
    nodes = {
        "a": node("a", "02:00:00:00:00:0a"),
        "sw": node("sw", "02:00:00:00:00:0c", ports=frozenset(["eth1"]), more=1),
    }
    assert filters.cut(nodes, [("a", "sw")])["sw"].devices == ("eth0",)


def test_routers_in_between_drop_what_they_forward() -> None:
    """A router that translates addresses knows both ends, at least if it is the only one."""
    nodes = {
        "a": node("a", "02:00:00:00:00:0a", "10.0.0.1"),
        "b": node("b", "02:00:00:00:00:0b", "10.9.0.1"),
        "gw": node("gw", "02:00:00:00:00:0c", "10.0.0.254", more=1),
    }
    text = filters.cut(nodes, [("a", "b")])["gw"].text("t")
    assert "hook forward" in text
    assert "ip saddr . ip daddr { 10.0.0.1 . 10.9.0.1 } counter drop" in text
    assert "netdev" not in text


def frame(source_mac: str, source: str, destination: str, tag: bytes = b"") -> bytes:
    """An Ethernet frame with an IPv4 header, with the fields that are used."""
    ends = ip_address(source).packed + ip_address(destination).packed
    return bytes(6) + bytes.fromhex(source_mac.replace(":", "")) + tag + b"\x08\x00" + b"\x45" + bytes(11) + ends


@pytest.mark.parametrize("tag", [b"", b"\x81\x00\x00\x0a"], ids=["untagged", "VLAN 10"])
def test_what_a_filter_drops(tag: bytes) -> None:
    """A captured frame is marked as dropped if the rules drop it: by interface, MAC address, IP address."""
    chosen = filters.Filter(("eth0",), False, frozenset(["02:00:00:00:00:0a"]), frozenset([ip_address("10.0.0.1")]))
    assert chosen.drops("eth0", frame("02:00:00:00:00:0a", "1.1.1.1", "2.2.2.2", tag))
    assert chosen.drops("eth0", frame("02:00:00:00:00:0f", "10.0.0.1", "2.2.2.2", tag))
    assert not chosen.drops("eth0", frame("02:00:00:00:00:0f", "1.1.1.1", "10.0.0.1", tag))
    assert not chosen.drops("eth1", frame("02:00:00:00:00:0a", "10.0.0.1", "2.2.2.2", tag))

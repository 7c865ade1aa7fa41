"""Translated addresses: source NAT, one-to-one NAT, networks; with real packets, both families."""

from __future__ import annotations

import pytest

from pytest_netns import InvalidTopologyError, Lab, NetnsError, Snat, Topology
from tests.support.traffic import listen, peer_of_connection, reaches


def addresses(lab: Lab, namespace: str, interface: str) -> list[str]:
    """An interface's addresses."""
    return [str(each) for each in lab[namespace].interfaces[interface].addresses]


@pytest.mark.parametrize("source", ["192.168.15.2", "blue", "192.168.15.2/32"])
def test_snat(netns_nat: Lab, source: str) -> None:
    """Outside sees blue with the new address, and red as before; the gateway has the address until the rule is removed."""
    host = netns_nat.host
    exchanged = host.snat(source, to="192.168.1.77", out="eth0")
    assert isinstance(exchanged, Snat)
    with listen(netns_nat["outside"], 80) as server:
        assert peer_of_connection(netns_nat["blue"], "192.168.1.3", 80, server) == "192.168.1.77"
        assert peer_of_connection(netns_nat["red"], "192.168.1.3", 80, server) == "192.168.1.2"
    assert exchanged.packets
    assert "SNAT 192.168.15.2 → 192.168.1.77 out eth0" in netns_nat.draw()
    assert "192.168.1.77/24" in addresses(netns_nat, "host", "eth0")
    exchanged.remove()
    exchanged.remove()
    assert "192.168.1.77/24" not in addresses(netns_nat, "host", "eth0")
    with listen(netns_nat["outside"], 80) as server:
        assert peer_of_connection(netns_nat["blue"], "192.168.1.3", 80, server) == "192.168.1.2"


def test_one_to_one(netns_nat: Lab) -> None:
    """An outer address is mapped to blue on every port, and blue goes out with it; it also reaches itself by it."""
    exchanged = netns_nat.host.nat_1to1("192.168.1.20", "blue")
    with listen(netns_nat["blue"], 80) as server:
        assert peer_of_connection(netns_nat["outside"], "192.168.1.20", 80, server) == "192.168.1.3"
        peer_of_connection(netns_nat["red"], "192.168.1.20", 80, server)
        peer_of_connection(netns_nat.host, "192.168.1.20", 80, server)
    with listen(netns_nat["outside"], 80) as server:
        assert peer_of_connection(netns_nat["blue"], "192.168.1.3", 80, server) == "192.168.1.20"
        assert peer_of_connection(netns_nat["red"], "192.168.1.3", 80, server) == "192.168.1.2"
    assert exchanged.packets
    assert "192.168.1.20 ↔ blue" in netns_nat.draw()
    exchanged.remove()
    assert not reaches(netns_nat["outside"], "192.168.1.20")


def test_a_port_forward_goes_before_one_to_one(netns_nat: Lab) -> None:
    """A single port of the address can be forwarded to another target."""
    netns_nat.host.nat_1to1("192.168.1.20", "blue")
    netns_nat.host.forward_port(80, to="red", address="192.168.1.20")
    with listen(netns_nat["red"], 80) as red, listen(netns_nat["blue"], 81) as blue:
        peer_of_connection(netns_nat["outside"], "192.168.1.20", 80, red)
        peer_of_connection(netns_nat["outside"], "192.168.1.20", 81, blue)


def test_one_to_one_follows_a_name(netns_nat: Lab) -> None:
    """If blue gets another address, the outer one is mapped to that."""
    netns_nat.host.nat_1to1("192.168.1.20", "blue")
    interface = netns_nat["blue"].interfaces["veth-blue"]
    interface.remove_address("192.168.15.2/24")
    interface.add_address("192.168.15.22/24")
    netns_nat["blue"].add_default_route(via="192.168.15.5")
    with listen(netns_nat["blue"], 80) as server:
        peer_of_connection(netns_nat["outside"], "192.168.1.20", 80, server)


@pytest.mark.parametrize(
    ("outer", "inner", "seen"),
    [("10.7.0.0/25", "192.168.15.0/25", "10.7.0.{}"), ("fd07::/64", "fd00:15::/64", "fd07::{}")],
    ids=["IPv4", "IPv6"],
)
def test_a_network(netns: Lab, outer: str, inner: str, seen: str) -> None:
    """Each inner address has an outer one with the same host part, in both directions (netmap)."""
    gw, outside = netns.add_namespace("gw"), netns.add_namespace("outside")
    bridge = netns.add_bridge("lan", ["192.168.15.5/25", "fd00:15::5/64"], namespace=gw)
    for number, name in enumerate(("red", "blue"), start=1):
        bridge.attach(netns.add_namespace(name), [f"192.168.15.{number}/25", f"fd00:15::{number}/64"])
        netns[name].add_default_route(via="192.168.15.5")
        netns[name].add_default_route(via="fd00:15::5")
    netns.add_veth(
        gw,
        outside,
        names=("wan", "eth0"),
        addresses=(["192.168.1.2/24", "fd00:1::2/64"], ["192.168.1.3/24", "fd00:1::3/64"]),
    )
    six = ":" in outer
    outside.add_route(outer, via="fd00:1::2" if six else "192.168.1.2")
    exchanged = gw.nat_1to1(outer, inner, out="wan")
    with listen(netns["blue"], 80) as server:
        assert peer_of_connection(outside, seen.format(2), 80, server) == ("fd00:1::3" if six else "192.168.1.3")
    with listen(outside, 80) as server:
        for number, name in enumerate(("red", "blue"), start=1):
            there = "fd00:1::3" if six else "192.168.1.3"
            assert peer_of_connection(netns[name], there, 80, server) == seen.format(number)
    assert exchanged.packets


def test_in_a_topology(netns: Lab) -> None:
    """Both kinds in TOML."""
    netns.build(
        Topology.loads("""
[[veths]]
ends = [{ namespace = "blue", address = "192.168.15.2/24" }, { namespace = "gw", address = "192.168.15.5/24" }]
[[veths]]
ends = [{ namespace = "gw", name = "wan", address = "192.168.1.2/24" }, { namespace = "outside", address = "192.168.1.3/24" }]
[[routes]]
namespace = "blue"
destination = "default"
via = "gw"
[[one_to_one]]
namespace = "gw"
outer = "192.168.1.20"
inner = "blue"
[[snats]]
namespace = "gw"
source = "10.0.0.0/8"
to = "192.168.1.77"
out = "wan"
""")
    )
    with listen(netns["outside"], 80) as server:
        assert peer_of_connection(netns["blue"], "192.168.1.3", 80, server) == "192.168.1.20"
    assert "192.168.1.77/24" in addresses(netns, "gw", "wan")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda host: host.snat("192.168.15.2", to="fd00::1"), "of different families"),
        (lambda host: host.snat("nobody", to="192.168.1.77"), "'nobody' as network"),
        (lambda host: host.snat("192.168.15.2", to="there"), "'there' as address"),
        (lambda host: host.snat("192.168.15.2", to="192.168.1.77", out="eth9"), "'eth9' as interface"),
        (lambda host: host.nat_1to1("192.168.1.0/25", "192.168.15.0/24"), "write a network with /25"),
        (lambda host: host.nat_1to1("192.168.1.0/25", "blue"), "'blue' as inner side of a network"),
        (lambda host: host.nat_1to1("fd00::1", "blue"), "it has no IPv6 address yet"),
        (lambda host: host.nat_1to1("192.168.1.20", "bleu"), "'bleu' in this lab.*did you mean 'blue'"),
        (lambda host: host.nptv6("fd00:1::/48", "2001:db8::/64", out="eth0"), "have different lengths"),
        (lambda host: host.nptv6("192.168.0.0/16", "10.7.0.0/16", out="eth0"), "IPv6 prefixes"),
        (lambda host: host.nptv6("fd00:1::/65", "2001:db8::/65", out="eth0"), "at most 64 bits"),
    ],
)
def test_mistakes(netns_nat: Lab, call: object, said: str) -> None:
    """Invalid values are refused with the reason, and nothing changes."""
    before = netns_nat.host.ruleset().count(" comment ")
    with pytest.raises(InvalidTopologyError, match=said):
        call(netns_nat.host)  # type: ignore[operator]
    assert netns_nat.host.ruleset().count(" comment ") == before
    assert addresses(netns_nat, "host", "eth0")[0] == "192.168.1.2/24"


def test_prefix_translation(netns: Lab) -> None:
    """An inner IPv6 prefix is translated to an outer one without connection tracking; the example of RFC 6296, appendix A."""
    red, gw, outside = (netns.add_namespace(name) for name in ("red", "gw", "outside"))
    netns.add_veth(red, gw, names=("eth0", "lan"), addresses=("fd01:203:405:1::1234/64", "fd01:203:405:1::1/64"))
    netns.add_veth(gw, outside, names=("wan", "eth0"), addresses=("2001:db8:ffff::1/64", "2001:db8:ffff::2/64"))
    red.add_default_route(via="fd01:203:405:1::1")
    outside.add_route("2001:db8:1::/48", via="2001:db8:ffff::1")
    translated = gw.nptv6("fd01:203:405::/48", "2001:db8:1::/48", out="wan")
    with listen(outside, 80) as server:
        assert peer_of_connection(red, "2001:db8:ffff::2", 80, server) == "2001:db8:1:d550::1234"
    with listen(red, 80) as server:
        assert peer_of_connection(outside, "2001:db8:1:d550::1234", 80, server) == "2001:db8:ffff::2"
    assert translated.packets > 4
    assert translated.bytes > translated.packets * 40
    assert not gw.packet_rules.ruleset.tracked_connections()
    assert "prefix fd01:203:405::/48 ↔ 2001:db8:1::/48 out wan (RFC 6296)" in netns.draw()
    translated.remove()
    with pytest.raises(NetnsError, match="it has been removed"):
        _ = translated.packets
    assert "fd01" not in netns.draw().split("[gw]")[1].split("[outside]")[0].replace("fd01:203:405:1::", "")

"""Masquerades and port forwards as nft text, and conflicts between them."""

from __future__ import annotations

import ipaddress

import pytest

from pytest_netns import InvalidTopologyError, PortForwardSpec, Topology
from pytest_netns.parts.gateway import forward, nftext
from pytest_netns.parts.gateway.forward import PortForwarding
from pytest_netns.parts.gateway.masquerade import Masquerading
from pytest_netns.parts.gateway.nftext import Flow
from pytest_netns.parts.gateway.port_index import PortIndex
from pytest_netns.values import PortRange, parse_ports, parse_service_ports

LAN = ipaddress.ip_network("192.168.15.0/24")
BLUE = (ipaddress.ip_address("192.168.15.2"), ipaddress.ip_address("fd00::2"))
RED = (ipaddress.ip_address("192.168.15.1"),)


def texts(rules: object, chain: str) -> list[str]:
    """The rules of a chain."""
    return [rule.text for rule in rules.rules() if rule.chain == chain]  # type: ignore[attr-defined]


def spec(port: object, *to: str, **options: object) -> PortForwardSpec:
    """A port forward of gw."""
    return PortForwardSpec("gw", port, to, **options)  # type: ignore[arg-type]


def test_masquerade_as_text() -> None:
    """A masquerade matches its interface and its source, and excludes traffic inside; for IPv6 with ip6."""
    assert texts(Masquerading(LAN, "eth0"), nftext.MASQUERADES) == [
        'oifname "eth0" ip saddr 192.168.15.0/24 ip daddr != 192.168.15.0/24 masquerade'
    ]
    six = Masquerading(ipaddress.ip_network("fd00::/64"))
    assert texts(six, nftext.MASQUERADES) == ["ip6 saddr fd00::/64 ip6 daddr != fd00::/64 masquerade"]


def test_each_rule_counts_where_every_packet_is_seen() -> None:
    """nat chains see only the first packet, so the counter is in the other table, after translation."""
    counted = texts(Masquerading(LAN), nftext.COUNTED) + texts(
        PortForwarding(spec("80-81", "red"), (RED,)), nftext.COUNTED
    )
    assert all(text.endswith("counter") and "ct original" in text for text in counted)
    assert len(counted) == 2


@pytest.mark.parametrize(
    ("port", "to", "expected"),
    [
        ("5000-5002", ["blue"], "tcp dport 5000-5002 dnat ip to 192.168.15.2"),
        (
            "5000-5002",
            ["blue:6000-6002"],
            "tcp dport 5000-5002 dnat ip to 192.168.15.2 : tcp dport map { 5000 : 6000, 5001 : 6001, 5002 : 6002 }",
        ),
        (
            80,
            ["blue", "red"],
            "tcp dport 80 dnat ip to numgen inc mod 2 map { 0 : 192.168.15.2, 1 : 192.168.15.1 }",
        ),
        (
            80,
            ["blue:81", "red:82"],
            "tcp dport 80 dnat ip addr . port to numgen inc mod 2 map { 0 : 192.168.15.2 . 81, 1 : 192.168.15.1 . 82 }",
        ),
    ],
)
def test_port_forward_as_text(port: object, to: list[str], expected: str) -> None:
    """A range, a shifted range, several targets in turn; a separate rule for IPv6 if a target has it."""
    addresses = tuple(BLUE if each.startswith("blue") else RED for each in to)
    four, *six = texts(PortForwarding(spec(port, *to), addresses), nftext.FORWARDS)
    assert four == f"meta nfproto ipv4 {expected}"
    assert len(six) == 1
    assert "dnat ip6" in six[0]


def test_one_port_is_an_element_of_a_map() -> None:
    """A port with one unrestricted target takes no rule: for each family and protocol a map element, and a counting one."""
    forwarding = PortForwarding(spec(8080, "blue:80", protocol=("tcp", "udp")), (BLUE,))
    assert not list(forwarding.rules())
    assert [each.map for each in forwarding.mapped] == ["tcp4", "udp4", "tcp6", "udp6"]
    assert forwarding.mapped[3].text("netns-1") == (
        'create element inet netns udp6 { 8080 comment "netns-1" : fd00::2 . 80 }\n'
        "create element inet netns_counters udp6 { 8080 }\n"
    )
    assert PortForwarding(spec(80, "red"), (RED,)).mapped[0].target == 80


def test_limits_of_a_port_forward() -> None:
    """A source and an address are matched, and exclude the other family; each protocol has its own rule."""
    limited = spec(53, "blue", protocol=("tcp", "udp"), source="203.0.113.0/24", address="192.168.1.20")
    rules = texts(PortForwarding(limited, (BLUE,)), nftext.FORWARDS)
    assert [rule.split()[3] for rule in rules] == ["tcp", "udp"]
    assert all("ip saddr 203.0.113.0/24 ip daddr 192.168.1.20" in rule for rule in rules)


def test_words() -> None:
    """A drawing shows everything about a port forward."""
    limited = spec("5000-5010", "blue:80-90", protocol=("tcp", "udp"), source="203.0.113.0/24", address="192.168.1.20")
    assert forward.describe(limited) == "tcp+udp 5000-5010 at 192.168.1.20 from 203.0.113.0/24 → blue:80-90"


@pytest.mark.parametrize(
    ("other", "contradict"),
    [
        (spec(5005, "red"), True),
        (spec("4000-5000", "red"), True),
        (spec("5011-5020", "red"), False),
        (spec("1-65535", "red"), True),
        (spec(5005, "red", protocol="udp"), False),
        (spec(5005, "red", address="192.168.1.21"), False),
        (spec(5005, "red", source="198.51.100.0/24"), False),
        (spec(5005, "red", source="203.0.113.7"), True),
    ],
)
def test_contradictions(other: PortForwardSpec, contradict: bool) -> None:
    """Two port forwards conflict if a connection could match both; the error names both."""
    first = spec("5000-5010", "blue", source="203.0.113.0/24", address="192.168.1.20")
    index: PortIndex[str] = PortIndex()
    index.add(first, "first")
    assert bool(list(index.conflicting(other))) is contradict
    assert "red" in forward.contradiction(other, first)
    assert "tcp 5000-5010 at 192.168.1.20 from 203.0.113.0/24 → blue" in forward.contradiction(other, first)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (spec("5000-5010", "blue:6000-6005"), "11 ports to 6 ports.*as long as 5000-5010"),
        (spec("5000-5010", "blue:6000"), "11 ports to 1 port"),
        (spec(80, "blue:80-81"), "1 port to 2 ports"),
        (spec(80, "blue:80", "blue:80"), "'blue:80' twice"),
        (spec("80-81", "blue:90-91", "red:80-81"), "'blue:90-91' and 'red:80-81' in turn: their port ranges differ"),
        (spec(80, "blue", source="fd00::/64", address="192.168.1.2"), "different families"),
        (spec(80), "is missing"),
    ],
)
def test_mistakes(wrong: PortForwardSpec, said: str) -> None:
    """An invalid port forward is refused with the reason, naming both values."""
    with pytest.raises(InvalidTopologyError, match=said):
        Topology(port_forwards=[wrong])


def test_a_flow_that_a_forward_concerns() -> None:
    """Only to the gateway's own address, that port and protocol, from that source."""
    rule = PortForwarding(spec(53, "blue", protocol="udp", source="192.168.1.0/24"), (BLUE,))
    flow = Flow(
        "udp",
        ipaddress.ip_address("192.168.1.3"),
        ipaddress.ip_address("192.168.1.2"),
        53,
        to_gateway=True,
        has_other_source=False,
        has_other_destination=False,
    )
    assert rule.concerns(flow)
    assert not rule.concerns(flow._replace(port=54))
    assert not rule.concerns(flow._replace(protocol="tcp"))
    assert not rule.concerns(flow._replace(to_gateway=False))
    assert not rule.concerns(flow._replace(source=ipaddress.ip_address("10.0.0.1")))


def test_comments() -> None:
    """A comment begins with the identity, contains no quote, and fits nft's limit."""
    text = nftext.comment("netns-7", 'a "name" ' + "→" * 100)
    assert text.startswith("netns-7: a 'name' ")
    assert len(text.encode()) <= 127
    assert nftext.identity_of("netns-7: words: more") == "netns-7"


@pytest.mark.parametrize(
    ("written", "ports"),
    [
        (80, 80),
        ("80", 80),
        ("5000-5010", PortRange(5000, 5010)),
        (range(5000, 5011), PortRange(5000, 5010)),
        ((1024, 65535), PortRange(1024, 65535)),
        (PortRange(80, 80), 80),
    ],
)
def test_ports(written: object, ports: object) -> None:
    """A port or a range, as text, range or pair."""
    assert parse_ports(written) == ports


@pytest.mark.parametrize(
    "written",
    [
        0,
        65536,
        "0",
        "http",
        "",
        "-",
        "80-",
        "-80",
        "90-80",
        "1-65536",
        "9" * 5000,
        range(0),
        range(80, 90, 2),
        None,
        True,
        8.0,
        (1, 2, 3),
    ],
)
def test_not_ports(written: object) -> None:
    """The error for anything else names the value and the valid forms."""
    with pytest.raises(InvalidTopologyError, match=r"cannot use .* as port: .*65535"):
        parse_ports(written)


def test_keys_of_the_markers_forward() -> None:
    """Ports with protocols as prefix."""
    assert parse_service_ports("tcp+udp/5000-5010") == (("tcp", "udp"), PortRange(5000, 5010))
    assert parse_service_ports(8080) == (("tcp",), 8080)
    assert parse_service_ports("udp/53") == (("udp",), 53)
    with pytest.raises(InvalidTopologyError, match=r"'sctp/53' as port: write 8080, 'udp/53'"):
        parse_service_ports("sctp/53")


def test_a_range_in_toml() -> None:
    """A topology with all features of a port forward is read, and written back unchanged."""
    text = """[[namespaces]]
name = "gw"

[[veths]]
subnet = "192.168.1.0/24"
ends = [
  { namespace = "gw" },
  { namespace = "blue" },
]

[[port_forwards]]
namespace = "gw"
port = "5000-5010"
to = ["blue:6000-6010", "192.168.1.9:6000-6010"]
protocol = ["tcp", "udp"]
source = "203.0.113.0/24"
address = "192.168.1.1"
"""
    topology = Topology.loads(text)
    assert topology.port_forwards[0].port == PortRange(5000, 5010)
    assert Topology.loads(topology.dumps()) == topology
    assert 'port = "5000-5010"' in topology.dumps()

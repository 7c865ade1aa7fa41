"""NATs and firewalls as nft text, and their mistakes, without a kernel."""

from __future__ import annotations

import ipaddress
import itertools

import pytest

from pytest_netns import FirewallRuleSpec, FirewallSpec, InvalidTopologyError, NatSpec, OneToOneSpec, SnatSpec, Topology
from pytest_netns.parts.gateway import firewall, nat, policies, snat
from pytest_netns.parts.gateway.firewall import FirewallFilter, FirewallTable
from pytest_netns.parts.gateway.nat import BEHAVIOURS, KINDS, NatKind
from pytest_netns.parts.gateway.nattable import Natting
from pytest_netns.values import PortRange

LAN = {4: ipaddress.ip_network("192.168.15.0/24"), 6: ipaddress.ip_network("fd00:15::/64")}


def table(mapping: str, filtering: str, version: int = 4, **options: object) -> str:
    """The nft text of a NAT."""
    kind = NatKind(mapping, filtering, **options)  # type: ignore[arg-type]
    return Natting(LAN[version], "wan", kind).table("t", 'comment "c"')


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("mapping", "filtering"), list(itertools.product(BEHAVIOURS, BEHAVIOURS)))
def test_filtering_of_incoming_packets(mapping: str, filtering: str, version: int) -> None:
    """Packets from strangers are let in by endpoint-independent filtering, from known addresses by address-dependent, else not."""
    text = table(mapping, filtering, version)
    incoming = text.split("chain incoming")[1].split("chain unsolicited")[0]
    assert ("dnat" in incoming) is (filtering != BEHAVIOURS[2])
    assert ("@peers_udp" in incoming) is (filtering == BEHAVIOURS[1])
    assert all(line.endswith('comment "c"') for line in incoming.splitlines() if "dnat" in line)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("mapping", BEHAVIOURS)
def test_maps_that_nft_writes_right(mapping: str, version: int) -> None:
    """No side of a map that is written to is longer than 16 bytes: nft 1.0.6 would write nonsense."""
    length = {"ipv4_addr": 4, "ipv6_addr": 16, "inet_service": 4, "mark": 4, "nf_proto": 4}
    for line in table(mapping, BEHAVIOURS[1], version).splitlines():
        if line.startswith("  map "):
            for side in line.split("type ")[1].split(";")[0].split(" : "):
                assert sum(length[each] for each in side.split(" . ")) <= 16, line


def test_ports_and_timeout() -> None:
    """Other ports come from the range, one by one if it is short; the timeout is that of UDP."""
    text = table(BEHAVIOURS[0], BEHAVIOURS[2], ports=PortRange(20000, 20001), timeout=30)
    assert "numgen inc mod 2 map { 0 : 20000, 1 : 20001 }" in text
    assert "unreplied : 30, replied : 30" in text
    assert "masquerade to :1024-65535 fully-random" in table(BEHAVIOURS[2], BEHAVIOURS[2])


@pytest.mark.parametrize("like", KINDS)
def test_usual_devices(like: str) -> None:
    """A name stands for its kind; other given values override it, except contradictory ones."""
    assert nat.kind_of(NatSpec("gw", "10.0.0.0/8", "wan", like=like)) == KINDS[like]
    assert nat.kind_of(NatSpec("gw", "10.0.0.0/8", "wan", like=like, timeout=5)).timeout == 5
    wrong = next(each for each in BEHAVIOURS if each != KINDS[like].mapping)
    assert list(nat.mistakes(NatSpec("gw", "10.0.0.0/8", "wan", like=like, mapping=wrong)))


def test_one_to_one_and_snat() -> None:
    """Sizes and families must match."""
    assert not list(snat.mistakes(OneToOneSpec("gw", "10.0.0.0/25", "192.168.0.0/25")))
    assert list(snat.mistakes(OneToOneSpec("gw", "10.0.0.0/25", "192.168.0.0/24")))
    assert list(snat.mistakes(OneToOneSpec("gw", "10.0.0.1", "fd00::1")))
    assert list(snat.mistakes(SnatSpec("gw", "10.0.0.1", "fd00::1")))


def rules(
    spec: FirewallRuleSpec, sources: object = None, destinations: object = None, group: int | None = None
) -> list[str]:
    """The nft texts of a rule."""
    made = FirewallFilter(spec, "t", "forward", sources, destinations, group)  # type: ignore[arg-type]
    return [rule.text for rule in made.rules()]


def test_rules_of_a_firewall() -> None:
    """One nft rule if no address is given, else one for each family; a port alone is tcp and udp."""
    assert rules(FirewallRuleSpec("accept")) == ["counter accept"]
    assert rules(FirewallRuleSpec("drop", port=(80, "90-95"), incoming="lan")) == [
        'iifname "lan" meta l4proto { tcp, udp } th dport { 80, 90-95 } counter drop'
    ]
    both = (LAN[4], LAN[6])
    assert rules(FirewallRuleSpec("accept", protocol="tcp", port=443), both, both) == [
        "meta nfproto ipv4 ip saddr 192.168.15.0/24 ip daddr 192.168.15.0/24 meta l4proto tcp th dport 443 counter accept",
        "meta nfproto ipv6 ip6 saddr fd00:15::/64 ip6 daddr fd00:15::/64 meta l4proto tcp th dport 443 counter accept",
    ]
    assert rules(FirewallRuleSpec("accept"), (LAN[4],), (LAN[6],)) == []


def test_rejects_and_logs() -> None:
    """TCP is reset, others get an ICMP error; a log comes before the verdict."""
    assert rules(FirewallRuleSpec("reject")) == [
        "meta l4proto tcp counter reject with tcp reset",
        "counter reject with icmpx admin-prohibited",
    ]
    assert rules(FirewallRuleSpec("reject", protocol="udp"), group=7) == [
        "meta l4proto udp counter log group 7 snaplen 65535 queue-threshold 1 reject with icmpx admin-prohibited"
    ]


def test_a_name_without_an_address_keeps_its_place() -> None:
    """There is still a rule for each family, which matches no packet."""
    four, six = rules(FirewallRuleSpec("accept", source="red"), (LAN[4],))
    assert "ip saddr 192.168.15.0/24" in four
    assert "ip6 saddr 100::" in six


def test_table_of_a_firewall() -> None:
    """Replies pass if it is stateful; loopback and neighbour discovery pass on input; a rejecting policy rejects at the end."""
    text = FirewallTable(FirewallSpec("gw", policy="reject", hook="input")).table("t", 'comment "c"')
    lines = [line.strip().removesuffix(' comment "c"') for line in text.splitlines()]
    assert "ct state established,related accept" in lines
    assert "iifname lo accept" in lines
    assert lines.index("jump rules") < lines.index("counter reject with icmpx admin-prohibited")
    assert "ct state" not in FirewallTable(FirewallSpec("gw", stateful=False)).table("t", "")


def test_words() -> None:
    """A drawing describes a rule."""
    spec = FirewallRuleSpec(
        "accept", source="red", destination="10.0.0.1", protocol="tcp", port=(443, "8000-8010"), log=True
    )
    assert spec.description == "accept tcp 443, 8000-8010 from red to 10.0.0.1, logged"
    assert [each.description for each in policies.POLICIES["web-only"]("wan")] == [
        "accept tcp 80, 443 out by wan",
        "accept udp 53 out by wan",
    ]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"nats": [NatSpec("host", "10.0.0.0/8", "wan")]}, r"nats\[0\].out: cannot use 'wan' as interface of 'host'"),
        (
            {"nats": [NatSpec("host", "10.0.0.0/8", "lo"), NatSpec("host", "10.1.0.0/16", "lo")]},
            r"nats\[1\].source: .* twice",
        ),
        ({"nats": [NatSpec("host", "10.0.0.0/8", "lo", like="home", filtering=BEHAVIOURS[0])]}, r"nats\[0\].filtering"),
        ({"snats": [SnatSpec("host", "10.0.0.0/8", "fd00::1")]}, r"snats\[0\].to: .*different families"),
        ({"one_to_one": [OneToOneSpec("host", "10.0.0.1", "nobody")]}, r"one_to_one\[0\].inner: cannot use 'nobody'"),
        (
            {"firewalls": [FirewallSpec("host", rules=[FirewallRuleSpec("accept", source="nobody")])]},
            r"firewalls\[0\].rules\[0\].source: cannot use 'nobody'",
        ),
        (
            {"firewalls": [FirewallSpec("host", hook="input", rules=[FirewallRuleSpec("drop", outgoing="lo")])]},
            r"firewalls\[0\].rules\[0\].outgoing: .*hook 'input'",
        ),
        ({"firewalls": [FirewallSpec("host", policy="deny")]}, r"firewalls\[0\].policy: cannot use 'deny' as policy"),
    ],
)
def test_mistakes_in_a_topology(part: dict[str, object], said: str) -> None:
    """A topology's mistakes have the path of their key."""
    with pytest.raises(InvalidTopologyError, match=said):
        Topology(**part)  # type: ignore[arg-type]


def test_ports_need_a_protocol_that_has_them() -> None:
    """ICMP has no ports."""
    assert list(firewall.mistakes(FirewallRuleSpec("accept", protocol="icmp", port=80), "forward"))

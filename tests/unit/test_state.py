"""Two states of a network compared."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

from pytest_netns.drawing.state import InterfaceState, NamespaceState, NeighbourState, RouteState
from pytest_netns.explaining.state import changes, dropping, rules

ETH = InterfaceState("eth0", "veth", "02:00:00:00:00:01", 1500, True, True, (ip_interface("10.0.0.1/24"),))
CONNECTED = RouteState("10.0.0.0/24 dev eth0")
RED = NamespaceState("red", (ETH,), (CONNECTED,))


def test_nothing_changed() -> None:
    """Counters, carrier, neighbours and the kernel's own link-local addresses are not changes of the set-up."""
    busy = replace(ETH, received=9, has_carrier=False, addresses=(*ETH.addresses, ip_interface("fe80::1/64")))
    now = replace(
        RED,
        interfaces=(busy,),
        neighbours=(NeighbourState("10.0.0.2"),),
        routes=(*RED.routes, RouteState("fe80::/64 dev eth0", is_link_local=True)),
    )
    assert changes({"red": RED}, {"red": now}) == []


def test_what_is_gone_and_what_is_new() -> None:
    """Each fact that is gone or new is a line that names the namespace."""
    now = replace(
        RED, interfaces=(replace(ETH, is_up=False, mtu=900, addresses=(ip_interface("10.0.0.7/24"),)),), routes=()
    )
    assert changes({"red": RED}, {"red": now}) == [
        "- red: interface eth0, MTU 1500",
        "- red: eth0 is up",
        "- red: eth0 has 10.0.0.1/24",
        "- red: route 10.0.0.0/24 dev eth0",
        "+ red: interface eth0, MTU 900",
        "+ red: eth0 is down",
        "+ red: eth0 has 10.0.0.7/24",
    ]


def test_settings_rules_and_sockets() -> None:
    """Sysctls, notes of NAT, nft rules and listening sockets are facts too; counters are not."""
    before = replace(RED, notes=("forwarding",), settings=("net.x = 1",), ruleset=ruleset("dport 22"))
    now = replace(RED, settings=("net.x = 2",), ruleset=ruleset("dport 22", packets=7), listening=("tcp *:80",))
    assert changes({"red": before}, {"red": now}) == [
        "- red: forwarding",
        "- red: net.x = 1",
        "+ red: net.x = 2",
        "+ red: listening tcp *:80",
    ]
    assert changes({"red": before}, {"red": replace(before, ruleset=ruleset("dport 23"))}) == [
        "- red: nft ip mine input: tcp dport 22 counter drop",
        "+ red: nft ip mine input: tcp dport 23 counter drop",
    ]


def ruleset(match: str, packets: int = 0) -> str:
    """As nft lists it."""
    return (
        "table ip mine {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n"
        f"\t\ttcp {match} counter packets {packets} bytes {packets * 60} drop\n\t}}\n}}\n"
    )


def test_own_rules_are_no_rules() -> None:
    """Rules of masquerades and port forwards are described as such."""
    assert rules("table inet netns {\n\tchain postrouting {\n\t\tmasquerade\n\t}\n}\n" + ruleset("dport 22")) == [
        "ip mine",
        "ip mine input",
        "ip mine input: type filter hook input priority filter; policy accept;",
        "ip mine input: tcp dport 22 counter drop",
    ]


def test_what_drops() -> None:
    """Only rules that may drop a packet are shown."""
    text = (
        ruleset("dport 22")
        + "table ip t {\n\tchain c {\n\t\ttype filter hook input priority 0; policy drop;\n\t\taccept\n\t}\n}\n"
    )
    assert dropping(text) == [
        "ip mine input: tcp dport 22 counter drop",
        "ip t c: type filter hook input priority 0; policy drop;",
    ]


def test_what_is_not_known_has_not_changed() -> None:
    """A fact that was read in only one of the states is not a change."""
    before = replace(RED, unknown=frozenset({"listening"}))
    assert changes({"red": before}, {"red": replace(RED, listening=("tcp *:80",))}) == []
    assert changes({"red": RED}, {"red": NamespaceState("red", unknown=frozenset({"interfaces", "routes"}))}) == []


def test_namespaces_come_and_go() -> None:
    """A namespace that was added or removed is shown by its name."""
    assert changes(
        {"old": NamespaceState("old")}, {"new": NamespaceState("new", routes=(RouteState("default dev lo"),))}
    ) == [
        "- old: the namespace",
        "+ new: the namespace",
    ]

"""Firewalls with real packets: policies, rules, states, counters, logs, ready-made rules, portals and black holes."""

from __future__ import annotations

import socket

import pytest

from pytest_netns import Firewall, FirewallRule, InvalidTopologyError, Lab, NetnsError, Topology
from tests.support.traffic import connection, listen, peer_of_datagram, reaches

TOPOLOGY = Topology.loads("""
[[namespaces]]
name = "gw"
forwarding = true

[[bridges]]
name = "lan"
namespace = "gw"
subnet = "10.1.0.0/24"
subnet6 = "fd01::/64"
gateway = true
ports = [{ namespace = "red" }, { namespace = "blue" }]

[[bridges]]
name = "dmz"
namespace = "gw"
subnet = "10.2.0.0/24"
subnet6 = "fd02::/64"
gateway = true
ports = [{ namespace = "web", name = "eth0" }]
""")


@pytest.fixture
def lab(netns: Lab) -> Lab:
    """red and blue in a LAN, web in a DMZ, gw between them."""
    netns.build(TOPOLOGY)
    return netns


def address(lab: Lab, name: str, version: int = 4) -> str:
    """The address of a namespace."""
    (found,) = (
        str(each.ip)
        for interface in lab[name].interfaces.values()
        for each in interface.addresses
        if each.version == version and not each.ip.is_loopback and not each.ip.is_link_local
    )
    return found


@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
def test_policy_and_a_rule(lab: Lab, version: int) -> None:
    """With policy drop only accepted packets and their replies pass; a rule counts, and is gone when removed."""
    fw = lab["gw"].firewall(policy="drop")
    assert isinstance(fw, Firewall)
    rule = fw.accept(destination="web", protocol="tcp", port=443)
    assert isinstance(rule, FirewallRule)
    web = address(lab, "web", version)
    with listen(lab["web"], 443) as server, listen(lab["web"], 80):
        assert rule.packets == 0
        with connection(lab["red"], web, 443, server) as (near, far, _):
            far.sendall(b"answer")
            assert near.recv(9) == b"answer"
        assert rule.packets == 1
        assert rule.bytes >= 60
        assert lab["red"].probe(f"[{web}]:80" if version == 6 else f"{web}:80", timeout=0.3) == "timeout"
        assert fw.packets
        rule.remove()
        assert lab["red"].probe(f"[{web}]:443" if version == 6 else f"{web}:443", timeout=0.3) == "timeout"
        fw.remove()
        assert lab["red"].probe(f"[{web}]:443" if version == 6 else f"{web}:443") == "open"
    with pytest.raises(NetnsError, match="it has been removed"):
        fw.accept(protocol="tcp")
    with pytest.raises(NetnsError, match="it has been removed"):
        _ = rule.packets


@pytest.mark.parametrize(
    ("policy", "tcp", "udp"), [("reject", "refused", "prohibited"), ("drop", "timeout", "timeout")]
)
def test_refused_and_dropped(lab: Lab, policy: str, tcp: str, udp: str) -> None:
    """Reject answers at once, drop does not answer; as policy and as rule."""
    fw = lab["gw"].firewall(policy=policy)
    assert lab["red"].probe("web:80", timeout=0.3) == tcp
    assert lab["red"].probe("web:53", "udp", timeout=0.3) == udp
    fw.remove()
    fw = lab["gw"].firewall(policy="accept")
    rule = getattr(fw, policy)(source="red", port=(80, "53-60"))
    assert lab["red"].probe("web:80", timeout=0.3) == tcp
    assert lab["red"].probe("web:53", "udp", timeout=0.3) == udp
    assert lab["red"].probe("web:61", timeout=0.3) == "refused"
    assert lab["blue"].probe("web:80", timeout=0.3) == "refused"
    assert rule.packets >= 2


def test_the_first_rule_that_matches_decides(lab: Lab) -> None:
    """Rules apply in the order they were added."""
    fw = lab["gw"].firewall(policy="accept")
    fw.accept(source=lab["red"], destination="10.2.0.0/24")
    fw.drop(destination=["10.2.0.0/24", "fd02::/64"])
    with listen(lab["web"], 80):
        assert lab["red"].probe(f"{address(lab, 'web')}:80") == "open"
        assert lab["blue"].probe(f"{address(lab, 'web')}:80", timeout=0.3) == "timeout"


@pytest.mark.parametrize("stateful", [True, False])
def test_states(lab: Lab, stateful: bool) -> None:
    """Replies pass unless the firewall is stateless; then both directions need a rule."""
    fw = lab["gw"].firewall(policy="drop", stateful=stateful)
    fw.accept(source="red", protocol="udp", port=53)
    with listen(lab["web"], 53, socket.SOCK_DGRAM) as server:
        if stateful:
            peer_of_datagram(lab["red"], address(lab, "web"), 53, server)
            return
        with lab["red"].socket(type=socket.SOCK_DGRAM) as near:
            near.settimeout(0.3)
            near.connect((address(lab, "web"), 53))
            near.send(b"ask")
            _, peer = server.recvfrom(9)
            server.sendto(b"answer", peer)
            with pytest.raises(TimeoutError):
                near.recv(9)
        fw.accept(destination="red", source="web", protocol="udp")
        peer_of_datagram(lab["red"], address(lab, "web"), 53, server)


def test_interfaces(lab: Lab) -> None:
    """Rules can match the incoming and the outgoing interface."""
    fw = lab["gw"].firewall(policy="drop")
    fw.accept(incoming=lab["gw"].interfaces["lan"], outgoing="dmz")
    assert reaches(lab["red"], address(lab, "web"))
    with listen(lab["red"], 80):
        assert lab["web"].probe(f"{address(lab, 'red')}:80", timeout=0.3) == "timeout"


@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
def test_input(lab: Lab, version: int) -> None:
    """Input filters only packets to the gateway itself; neighbour discovery and its own loopback still work."""
    gw = lab["gw"]
    gw.firewall(policy="drop", hook="input").accept(protocol="icmp")
    inner = {4: "10.1.0.254", 6: address_of_gateway(lab)}[version]
    assert reaches(lab["red"], inner)
    assert reaches(lab["red"], address(lab, "web", version))
    assert reaches(gw, "127.0.0.1")
    with listen(gw, 22):
        shown = f"[{inner}]:22" if version == 6 else f"{inner}:22"
        assert lab["red"].probe(shown, timeout=0.3) == "timeout"
        assert gw.probe("127.0.0.1:22") == "open"


def address_of_gateway(lab: Lab) -> str:
    """The IPv6 address of gw in the LAN."""
    return next(
        str(each.ip)
        for each in lab["gw"].interfaces["lan"].addresses
        if each.version == 6 and not each.ip.is_link_local
    )


def test_output(lab: Lab) -> None:
    """Output filters only packets from the gateway itself."""
    lab["gw"].firewall(policy="reject", hook="output").accept(protocol="icmp")
    with listen(lab["web"], 80):
        assert lab["gw"].probe(f"{address(lab, 'web')}:80", timeout=1) in ("refused", "prohibited")
        assert lab["red"].probe("web:80") == "open"
    assert reaches(lab["gw"], address(lab, "web"))


def test_log(lab: Lab) -> None:
    """A rule with a log records the packets that it matched, and no others."""
    fw = lab["gw"].firewall(policy="accept")
    quiet = fw.accept(protocol="udp", port=53)
    rule = fw.drop(source="red", protocol="udp", port=54, log=True)
    assert rule.log == []
    with lab["red"].socket(type=socket.SOCK_DGRAM) as near:
        near.sendto(b"first", (address(lab, "web"), 54))
        near.sendto(b"not this", (address(lab, "web"), 55))
        near.sendto(b"second", (address(lab, "web"), 54))
        port = near.getsockname()[1]
    lab.wait_until(lambda: rule.packets == 2)
    first, second = rule.log
    assert (first.protocol, first.source, first.destination) == ("udp", address(lab, "red"), address(lab, "web"))
    assert (first.source_port, first.destination_port) == (port, 54)
    assert first.data.endswith(b"first")
    assert second.data.endswith(b"second")
    assert (first.namespace, first.interface) == ("gw", "lan")
    assert len(rule.log) == 2
    with pytest.raises(InvalidTopologyError, match="it keeps none; add it with log=True"):
        _ = quiet.log


def test_a_name_stands_for_its_addresses_of_now(lab: Lab) -> None:
    """A rule for a namespace follows its addresses, and keeps its position."""
    fw = lab["gw"].firewall(policy="accept")
    fw.drop(source="red", protocol="tcp", port=81)
    fw.accept(source="red")
    fw.drop(protocol="tcp", port=80)
    interface = next(each for name, each in lab["red"].interfaces.items() if name != "lo")
    (before,) = (each for each in interface.addresses if each.version == 4)
    interface.remove_address(before)
    interface.add_address("10.1.0.77/24")
    lab["red"].add_default_route(via="10.1.0.254")
    with listen(lab["web"], 80), listen(lab["web"], 81):
        assert lab["red"].probe(f"{address(lab, 'web')}:80") == "open"
        assert lab["red"].probe(f"{address(lab, 'web')}:81", timeout=0.3) == "timeout"
        assert lab["blue"].probe(f"{address(lab, 'web')}:80", timeout=0.3) == "timeout"


@pytest.mark.parametrize("like", ["home", "web-only"])
def test_ready_rules(lab: Lab, like: str) -> None:
    """A home firewall lets everything out and only replies in; "web-only" allows only web and DNS."""
    lab["gw"].firewall(policy="reject", like=like, outside="dmz")
    web, red = address(lab, "web"), address(lab, "red")
    with listen(lab["web"], 443), listen(lab["web"], 22), listen(lab["red"], 443):
        assert lab["red"].probe(f"{web}:443") == "open"
        assert lab["red"].probe(f"{web}:22") == ("open" if like == "home" else "refused")
        assert lab["web"].probe(f"{red}:443") == "refused"
    assert reaches(lab["red"], web) is (like == "home")


def test_in_a_topology(netns: Lab) -> None:
    """A firewall with its rules in TOML: read, written and in force; drawings describe them."""
    text = """
[[firewalls]]
namespace = "gw"
policy = "reject"
rules = [
  { verdict = "accept", source = "red", destination = ["10.2.0.0/24", "fd02::/64"], protocol = "tcp", port = [443, "8000-8010"] },
  { verdict = "drop", incoming = "lan", log = true },
]
"""
    topology = Topology.loads(TOPOLOGY.dumps() + text)
    assert Topology.loads(topology.dumps()) == topology
    netns.build(topology)
    web = address(netns, "web")
    with listen(netns["web"], 8003):
        assert netns["red"].probe(f"{web}:8003") == "open"
        assert netns["blue"].probe(f"{web}:8003", timeout=0.3) == "timeout"
        assert netns["web"].probe(f"{address(netns, 'red')}:80") == "refused"
    for drawing in (topology.draw(), netns.draw()):
        assert "firewall, forward: reject by default" in drawing
        assert "firewall, forward: accept tcp 443, 8000-8010 from red to 10.2.0.0/24, fd02::/64" in drawing
        assert "firewall, forward: drop in by lan, logged" in drawing


def test_too_big_is_blocked(lab: Lab) -> None:
    """Senders get no ICMP error for packets that are too big: a path-MTU black hole, until the handle is removed."""
    lab["web"].interfaces["eth0"].mtu = 1400
    lab["gw"].interfaces["veth-web-br"].mtu = 1400
    lab["gw"].interfaces["dmz"].mtu = 1400
    web = address(lab, "web")
    hole = lab["gw"].block_icmp_too_big()
    ping = ["ping", "-c1", "-W1", "-Mdo", "-s1450", web]
    silent = lab["red"].run(ping, check=False).stdout
    assert "100% packet loss" in silent
    assert "Frag needed" not in silent
    assert hole.packets
    assert "blocks ICMP packet too big" in lab.draw()
    hole.remove()
    assert "Frag needed" in lab["red"].run(ping, check=False).stdout


def test_captive_portal(lab: Lab) -> None:
    """Until a client is admitted, any web page is the portal's, and nothing else answers."""
    lab.add_veth(lab["gw"], lab.add_namespace("portal"), addresses=("10.3.0.1/24", "10.3.0.2/24"))
    lab["portal"].add_default_route(via="10.3.0.1")
    portal = lab["gw"].captive_portal("10.1.0.0/24", to="portal:8080")
    web = address(lab, "web")
    with listen(lab["portal"], 8080) as there, listen(lab["web"], 80) as real, listen(lab["web"], 443):
        with connection(lab["red"], web, 80, there):
            pass
        assert lab["red"].probe(f"{web}:443") == "refused"
        portal.admit("red")
        portal.admit("red")
        with connection(lab["red"], web, 80, real):
            pass
        assert lab["red"].probe(f"{web}:443") == "open"
        assert lab["blue"].probe(f"{web}:443") == "refused"
        portal.expel(lab["red"])
        with connection(lab["red"], web, 80, there):
            pass
        assert portal.packets
        portal.remove()
        with connection(lab["blue"], web, 80, real):
            pass


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda gw: gw.firewall(policy="deny"), "'deny' as policy: valid are 'accept', 'drop', 'reject'"),
        (lambda gw: gw.firewall(hook="prerouting"), "'prerouting' as hook"),
        (lambda gw: gw.firewall(like="home"), "it needs outside="),
        (lambda gw: gw.firewall(like="hotel", outside="lan"), "'hotel' as ready firewall"),
        (lambda gw: gw.firewall(like="home", outside="wan"), "'wan' as interface"),
        (lambda gw: gw.captive_portal("10.1.0.0/24", to="nobody"), "'nobody' in this lab"),
        (lambda gw: gw.captive_portal("10.1.0.0/24", to="web:80-81"), "give one port"),
        (lambda gw: gw.captive_portal("fd09::/64", to="10.2.0.1"), "it has no IPv6 address"),
    ],
)
def test_mistakes(lab: Lab, call: object, said: str) -> None:
    """Invalid arguments are refused with the reason, and nothing changes."""
    with pytest.raises(InvalidTopologyError, match=said):
        call(lab["gw"])  # type: ignore[operator]
    assert lab["gw"].ruleset() == ""


@pytest.mark.parametrize(
    ("hook", "options", "said"),
    [
        ("forward", {"protocol": "icmp", "port": 80}, "a port with protocol 'icmp'"),
        ("forward", {"protocol": "http"}, "'http' as protocol"),
        ("forward", {"source": "10.1.0.1/24"}, "'10.1.0.0/24' would be valid"),
        ("forward", {"source": "bleu"}, "'bleu' in this lab.*did you mean 'blue'"),
        ("forward", {"port": "80-70"}, "'80-70' as port"),
        ("forward", {"incoming": "wan"}, "'wan' as interface of namespace 'gw'"),
        ("input", {"outgoing": "lan"}, "outgoing with hook 'input'"),
        ("output", {"incoming": "lan"}, "incoming with hook 'output'"),
    ],
)
def test_mistakes_in_rules(lab: Lab, hook: str, options: dict[str, object], said: str) -> None:
    """An invalid rule is refused with the reason, and none is added."""
    fw = lab["gw"].firewall(hook=hook)
    # Its counters change by themselves: the kernel sends a packet now and then.
    before = lab["gw"].ruleset().count(" counter ")
    with pytest.raises(InvalidTopologyError, match=said):
        fw.accept(**options)  # type: ignore[arg-type]
    assert lab["gw"].ruleset().count(" counter ") == before
    assert fw.rules == []

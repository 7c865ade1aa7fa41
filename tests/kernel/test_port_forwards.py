"""Port forwards with real packets: ranges, protocols, sources, several targets; their handles, and names whose addresses change."""

from __future__ import annotations

import socket
from collections import Counter

import pytest

from pytest_netns import (
    InvalidTopologyError,
    Lab,
    NetnsError,
    PortForward,
    PortForwardSpec,
    RulesetError,
    Topology,
    UnavailableError,
)
from pytest_netns.parts.gateway import nftext
from tests.support.traffic import connection, listen, peer_of_connection, peer_of_datagram

OUTER = "192.168.1.2"


def refused(lab: Lab, port: int, address: str = OUTER, client: str = "outside") -> bool:
    """Whether there is no answer."""
    with lab[client].socket() as near:
        near.settimeout(2)
        try:
            near.connect((address, port))
        except ConnectionRefusedError:
            return True
    return False


@pytest.mark.parametrize("ports", ["5000-5002", range(5000, 5003)], ids=["text", "range"])
def test_a_range_of_both_protocols(netns_nat: Lab, ports: str | range) -> None:
    """Each port of a range is forwarded to the same port of blue, tcp and udp; adjacent ports are not."""
    forwarded = netns_nat.host.forward_port(ports, to="blue", protocol=("tcp", "udp"))
    assert isinstance(forwarded, PortForward)
    for port in (5000, 5002):
        with listen(netns_nat["blue"], port) as server:
            assert peer_of_connection(netns_nat["outside"], OUTER, port, server) == "192.168.1.3"
        with listen(netns_nat["blue"], port, socket.SOCK_DGRAM) as server:
            assert peer_of_datagram(netns_nat["outside"], OUTER, port, server) == "192.168.1.3"
    with listen(netns_nat["blue"], 5003):
        assert refused(netns_nat, 5003)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_shifted_range(netns_nat: Lab, protocol: str) -> None:
    """Each port is forwarded to the port at the same offset of the other range."""
    netns_nat.host.forward_port("5000-5010", to="blue:6000-6010", protocol=protocol)
    if protocol == "tcp":
        with listen(netns_nat["blue"], 6007) as server:
            peer_of_connection(netns_nat["outside"], OUTER, 5007, server)
    else:
        with listen(netns_nat["blue"], 6007, socket.SOCK_DGRAM) as server:
            peer_of_datagram(netns_nat["outside"], OUTER, 5007, server)


@pytest.mark.parametrize("targets", [["red:80", "blue:80"], ["red:80", "blue:81"]], ids=["one port", "two ports"])
def test_several_targets_take_turns(netns_nat: Lab, targets: list[str]) -> None:
    """Connections are distributed evenly."""
    netns_nat.host.forward_port(8080, to=targets)
    seen: Counter[str] = Counter()
    with listen(netns_nat["red"], 80) as one, listen(netns_nat["blue"], int(targets[1][-2:])) as two:
        one.setblocking(False)
        two.setblocking(False)
        for _ in range(6):
            with netns_nat["outside"].create_connection((OUTER, 8080), timeout=5):
                for name, server in (("red", one), ("blue", two)):
                    try:
                        server.accept()[0].close()
                    except BlockingIOError:
                        continue
                    seen[name] += 1
    assert seen == {"red": 3, "blue": 3}


def test_only_from_a_source(netns_nat: Lab) -> None:
    """Other clients reach the gateway's own port, as before."""
    netns_nat.host.forward_port(8080, to="blue:80", source="192.168.1.3")
    netns_nat["outside"].interfaces["eth0"].add_address("192.168.1.4/24")
    with listen(netns_nat["blue"], 80) as inside, listen(netns_nat.host, 8080) as own:
        assert peer_of_connection(netns_nat["outside"], OUTER, 8080, inside) == "192.168.1.3"
        with netns_nat["outside"].socket() as near:
            near.bind(("192.168.1.4", 0))
            near.connect((OUTER, 8080))
            far, peer = own.accept()
            far.close()
            assert peer[0].endswith("192.168.1.4")


def test_only_at_an_address(netns_nat: Lab) -> None:
    """Only one of the outer addresses is forwarded; two can have different targets."""
    host = netns_nat.host
    host.interfaces["eth0"].add_address("192.168.1.20/24")
    host.forward_port(80, to="blue", address="192.168.1.20")
    host.forward_port(80, to="red", address=OUTER)
    with listen(netns_nat["blue"], 80) as blue, listen(netns_nat["red"], 80) as red:
        peer_of_connection(netns_nat["outside"], "192.168.1.20", 80, blue)
        peer_of_connection(netns_nat["outside"], OUTER, 80, red)


def test_counts(netns_nat: Lab) -> None:
    """Every packet that a forward has translated is counted, not only the first of a connection; replies are not."""
    forwarded = netns_nat.host.forward_port(53, to="blue", protocol="udp")
    other = netns_nat.host.forward_port(54, to="blue", protocol="udp")
    assert (forwarded.packets, forwarded.bytes) == (0, 0)
    with (
        listen(netns_nat["blue"], 53, socket.SOCK_DGRAM) as server,
        netns_nat["outside"].socket(type=socket.SOCK_DGRAM) as near,
    ):
        near.connect((OUTER, 53))
        for _ in range(3):
            near.send(b"x" * 100)
            _, peer = server.recvfrom(200)
        server.sendto(b"answer", peer)
        assert near.recv(10) == b"answer"
    assert (forwarded.packets, forwarded.bytes) == (3, 3 * 128)
    assert other.packets == 0


def test_counts_of_the_gateways_own_connections(netns_nat: Lab) -> None:
    """Packets from the gateway itself and from inside are counted too."""
    forwarded = netns_nat.host.forward_port(8080, to="blue:80")
    for client in ("host", "red", "outside"):
        before = forwarded.packets
        with listen(netns_nat["blue"], 80) as server:
            peer_of_connection(netns_nat[client], OUTER, 8080, server)
        assert forwarded.packets > before, client


def test_remove(netns_nat: Lab) -> None:
    """A removed forward no longer works, the others stay, open connections continue, and the port is free again."""
    host, outside = netns_nat.host, netns_nat["outside"]
    forwarded = host.forward_port(8080, to="blue:80")
    host.forward_port(8081, to="red:80")
    with listen(netns_nat["blue"], 80) as server, connection(outside, OUTER, 8080, server) as (near, far, _):
        forwarded.remove()
        forwarded.remove()
        assert refused(netns_nat, 8080)
        near.sendall(b"still")
        assert far.recv(9) == b"still"
    with pytest.raises(NetnsError, match=r"cannot read the counter of 'tcp 8080 → blue:80'.*it has been removed"):
        _ = forwarded.packets
    with listen(netns_nat["red"], 80) as server:
        peer_of_connection(outside, OUTER, 8081, server)
    host.forward_port(8080, to="red:80")
    with listen(netns_nat["red"], 80) as server:
        peer_of_connection(outside, OUTER, 8080, server)


def test_a_removed_forward_forgets_udp_flows(netns_nat: Lab) -> None:
    """A UDP flow that was forwarded reaches the gateway itself afterwards, from the same socket."""
    host = netns_nat.host
    forwarded = host.forward_port(53, to="blue", protocol="udp")
    with (
        listen(netns_nat["blue"], 53, socket.SOCK_DGRAM) as inside,
        listen(host, 53, socket.SOCK_DGRAM) as own,
        netns_nat["outside"].socket(type=socket.SOCK_DGRAM) as near,
    ):
        near.connect((OUTER, 53))
        near.send(b"one")
        assert inside.recv(9) == b"one"
        forwarded.remove()
        near.send(b"two")
        assert own.recv(9) == b"two"


def test_what_others_deleted_is_said_and_not_made_again(netns_nat: Lab) -> None:
    """After `flush ruleset` handles report it, and adding one rule adds only that rule."""
    host = netns_nat.host
    forwarded = host.forward_port(8080, to="blue:80")
    host.nft("flush ruleset")
    for action in (lambda: forwarded.packets, forwarded.remove):
        with pytest.raises(NetnsError, match=r"something else has deleted them \(such as 'nft flush ruleset'\)"):
            action()
    assert "deleted" in repr(forwarded)
    again = host.forward_port(8080, to="blue:80")
    with listen(netns_nat["blue"], 80) as server:
        assert peer_of_connection(netns_nat["outside"], OUTER, 8080, server) == "192.168.1.3"
    assert again.packets
    assert "masquerade 192.168.15.0/24" not in host.ruleset()
    assert "masquerade 192.168.15.0/24" not in netns_nat.draw()
    host.masquerade("192.168.15.0/24", out="eth0")
    with listen(netns_nat["outside"], 80) as server:
        assert peer_of_connection(netns_nat["red"], "192.168.1.3", 80, server) == OUTER


@pytest.mark.parametrize("table", ["netns", "netns_counters"])
def test_an_element_that_others_deleted(netns_nat: Lab, table: str) -> None:
    """A port that was deleted from a map by hand is reported, and not added again; the others are unchanged."""
    host = netns_nat.host
    one, two = host.forward_port(8080, to="blue:80"), host.forward_port(8081, to="blue:80")
    host.run(f"nft delete element inet {table} tcp4 {{ 8080 }}")
    with pytest.raises(NetnsError, match="something else has deleted them"):
        one.remove()
    host.forward_port(8082, to="blue:80")
    assert "8080" not in host.run(f"nft list table inet {table}").stdout
    assert two.packets == 0
    with listen(netns_nat["blue"], 80) as server:
        peer_of_connection(netns_nat["outside"], OUTER, 8081, server)


def test_an_element_that_others_added(netns_nat: Lab) -> None:
    """A port that something else has added to our map is refused, with nft's message, and nothing else is added."""
    host = netns_nat.host
    host.forward_port(8081, to="blue:80")
    host.forward_port("6000-6010", to="blue")
    host.nft("add element inet netns tcp4 { 8080 : 192.168.15.1 . 80 }")
    before = host.ruleset()
    specs = [PortForwardSpec("host", port, to="blue:80") for port in (8079, 8080)]
    ranged = PortForwardSpec("host", "5000-5010", to="blue")
    with pytest.raises(RulesetError, match="File exists"):
        host.gateway.add([ranged, *specs])
    assert host.ruleset() == before
    assert host.forward_port(8079, to="blue:80").packets == 0


def test_a_rule_that_others_deleted(netns_nat: Lab) -> None:
    """A rule that was deleted by hand is reported; the others are unchanged."""
    host = netns_nat.host
    one, two = host.forward_port("8080-8082", to="blue"), host.forward_port(8083, to="blue:80")
    listing = host.run(["nft", "-a", "list", "table", "inet", "netns"]).stdout.splitlines()
    chain = ""
    for each in listing:
        chain = each.split()[1] if each.strip().startswith("chain ") else chain
        if "dport 8080-8082" in each:
            host.run(["nft", "delete", "rule", "inet", "netns", chain, "handle", each.split()[-1]])
    with pytest.raises(NetnsError, match="something else has deleted them"):
        one.remove()
    assert two.packets == 0
    with listen(netns_nat["blue"], 80) as server:
        peer_of_connection(netns_nat["outside"], OUTER, 8083, server)


def test_tables_that_others_changed(netns_nat: Lab) -> None:
    """If our base chains were changed, adding a rule is an error with the remedy, which works."""
    host = netns_nat.host
    host.run("nft flush chain inet netns postrouting")
    with pytest.raises(NetnsError, match=r"something else has changed the tables.*nft delete table inet netns"):
        host.forward_port(8080, to="blue:80")
    host.nft("delete table inet netns; delete table inet netns_counters")
    host.forward_port(8080, to="blue:80")
    with listen(netns_nat["blue"], 80) as server:
        peer_of_connection(netns_nat["outside"], OUTER, 8080, server)


@pytest.mark.parametrize("how", ["interface", "program"])
def test_a_name_leads_to_its_address_of_now(netns_nat: Lab, how: str) -> None:
    """If blue gets another address the forward follows, whatever changed it, and keeps counting."""
    blue = netns_nat["blue"]
    forwarded = netns_nat.host.forward_port(8080, to="blue:80")
    with listen(blue, 80) as server:
        peer_of_connection(netns_nat["outside"], OUTER, 8080, server)
    before = forwarded.packets
    if how == "interface":
        blue.interfaces["veth-blue"].remove_address("192.168.15.2/24")
        blue.interfaces["veth-blue"].add_address("192.168.15.22/24")
        blue.add_default_route(via="192.168.15.5")
    else:
        blue.run("ip address del 192.168.15.2/24 dev veth-blue")
        blue.run("ip address add 192.168.15.22/24 dev veth-blue")
        blue.run("ip route replace default via 192.168.15.5")
    with listen(blue, 80) as server:
        peer_of_connection(netns_nat["outside"], OUTER, 8080, server)
    assert forwarded.packets > before > 0


@pytest.mark.parametrize(
    ("ports", "options", "said"),
    [
        ("5005", {"to": "red"}, r"tcp port 5005 of namespace 'host' to red: .*\(tcp 5000-5010 → blue\)"),
        ("4990-5000", {"to": "red"}, r"tcp ports 4990-5000 .*\(tcp 5000-5010 → blue\)"),
        ("6000-6010", {"to": "blue:7000-7005"}, "11 ports to 6 ports"),
        (6000, {"to": ["blue:80", "blue:80"]}, "'blue:80' twice"),
        (6000, {"to": []}, "is missing"),
        (
            6000,
            {"to": "blue", "address": "10.9.9.9"},
            "at 10.9.9.9: it is in none of its networks; it has .*192.168.1.2/24",
        ),
        (6000, {"to": "blue", "address": "somewhere"}, "'somewhere' as address"),
        (6000, {"to": "blue", "source": "inside; drop"}, "'inside; drop' as network"),
        (6000, {"to": "blue", "protocol": ("tcp", "sctp")}, "'sctp' as protocol"),
        ("80-70", {"to": "blue"}, "'80-70' as port"),
        (6000, {"to": "fd00::1", "source": "10.0.0.0/8"}, "no IP version in common"),
    ],
)
def test_mistakes(netns_nat: Lab, ports: object, options: dict[str, object], said: str) -> None:
    """Invalid arguments are refused with the reason, naming both, and nothing changes."""
    netns_nat.host.forward_port("5000-5010", to="blue")
    before = netns_nat.host.ruleset().count(" comment ")
    with pytest.raises(InvalidTopologyError, match=said):
        netns_nat.host.forward_port(ports, **options)  # type: ignore[arg-type]
    assert netns_nat.host.ruleset().count(" comment ") == before


def test_in_a_topology(netns: Lab) -> None:
    """Ranges, both protocols, a source and an address in TOML."""
    netns.build(
        Topology.loads("""
[[bridges]]
name = "v-net-0"
namespace = "gw"
address = "192.168.15.5/24"
ports = [{ namespace = "blue", address = "192.168.15.2/24" }]

[[veths]]
ends = [{ namespace = "gw", address = "192.168.1.2/24" }, { namespace = "outside", address = "192.168.1.3/24" }]

[[routes]]
namespace = "blue"
destination = "default"
via = "192.168.15.5"

[[port_forwards]]
namespace = "gw"
port = "5000-5010"
to = "blue:6000-6010"
protocol = ["tcp", "udp"]
source = "192.168.1.0/24"
address = "192.168.1.2"
""")
    )
    with listen(netns["blue"], 6003, socket.SOCK_DGRAM) as server:
        assert peer_of_datagram(netns["outside"], OUTER, 5003, server) == "192.168.1.3"
    assert "tcp+udp 5000-5010 at 192.168.1.2 from 192.168.1.0/24 → blue:6000-6010" in netns.draw()


@pytest.mark.netns(namespaces=["red", "blue"], forward={"5000-5010": "blue", "udp/53": "red", 80: ["red", "blue"]})
def test_in_the_marker(netns: Lab) -> None:
    """A range, a protocol and several targets, inline; the test's body runs in the gateway."""
    with netns["blue"].create_server(("", 5004)) as server:
        with socket.create_connection(("192.168.15.254", 5004), timeout=5):
            server.accept()[0].close()


def test_many(netns_nat: Lab) -> None:
    """Many forwards work like few, and each of them can be counted and removed."""
    host = netns_nat.host
    forwards = [host.forward_port(port, to=f"blue:{port}") for port in range(5000, 5200)]
    with listen(netns_nat["blue"], 5177) as server:
        peer_of_connection(netns_nat["outside"], OUTER, 5177, server)
    assert [each.packets > 0 for each in forwards].index(True) == 177
    forwards[177].remove()
    assert refused(netns_nat, 5177)
    with listen(netns_nat["blue"], 5178) as server:
        peer_of_connection(netns_nat["outside"], OUTER, 5178, server)


@pytest.mark.parametrize(
    ("port", "options"),
    [
        ("5000-5010", {"to": "blue", "protocol": ("tcp", "udp")}),
        (53, {"to": "blue", "protocol": "udp", "source": "203.0.113.0/24", "address": "192.168.1.2"}),
        (53, {"to": "blue:54", "source": "192.168.1.3"}),
    ],
)
def test_written_without_nft_as_nft_writes_it(netns_nat: Lab, port: object, options: dict[str, object]) -> None:
    """A single forward is added without nft; its rules are the same as those added with nft, among several."""
    host = netns_nat.host

    def listed() -> list[str]:
        lines = host.run("nft -s list ruleset").stdout.splitlines()
        return [line.strip().partition(" comment ")[0] for line in lines if "→ blue" in line]

    host.forward_port("8-9", to="red")  # so that chains exist
    host.forward_port(port, **options).remove()  # type: ignore[arg-type]
    host.forward_port(port, **options)  # type: ignore[arg-type]
    alone = listed()
    host.nft("flush ruleset")
    spec = PortForwardSpec("host", port, **options)  # type: ignore[arg-type]
    host.gateway.add([PortForwardSpec("host", "8-9", "red"), spec])
    assert alone == listed()
    assert len(alone) == 2 * len(spec.protocol)


def test_a_kernel_that_does_not_count_by_sets(netns_nat: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 5.7 the kernel ignores a set's counter: forwards work and follow names, reading their counts is an error."""
    ports_map = nftext.ports_map
    monkeypatch.setattr(nftext, "ports_map", lambda *of: ports_map(*of).replace(" counter;", ""))
    host, blue, outside = (netns_nat[name] for name in ("host", "blue", "outside"))
    web = host.forward_port(8080, to="blue:80")
    assert outside.probe("192.168.1.2:8080") == "refused"
    with pytest.raises(UnavailableError, match=r"this kernel has none\n  remedy: Linux 5\.7"):
        _ = web.packets
    blue.interfaces["veth-blue"].remove_address("192.168.15.2/24")
    blue.interfaces["veth-blue"].add_address("192.168.15.22/24")
    blue.add_default_route(via="192.168.15.5")
    with blue.create_server(("", 80)):
        assert outside.probe("192.168.1.2:8080") == "open"
    web.remove()
    assert "dnat" not in host.nft("list map inet netns tcp4")

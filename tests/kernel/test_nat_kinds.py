"""NAT of devices, seen from outside: mapping, filtering, hairpin, ports, timeouts, two NATs in a row."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator

import pytest

from pytest_netns import InvalidTopologyError, Lab, Namespace, NetnsError, Topology
from pytest_netns.parts.gateway.nat import BEHAVIOURS, KINDS

PATIENCE, SILENCE = 5.0, 0.3  # seconds: for packets that must arrive, and for those that must not
PORT, OTHER_PORT = 3478, 3479
LAN = {4: "192.168.15.0/24", 6: "fd00:15::/64"}
INSIDE = {4: "192.168.15.", 6: "fd00:15::"}
OUTER = {4: "192.168.1.2", 6: "fd00:1::2"}
SERVERS = {4: ("192.168.1.3", "192.168.1.4"), 6: ("fd00:1::3", "fd00:1::4")}
TOPOLOGY = Topology.loads("""
[[namespaces]]
name = "gw"
forwarding = true

[[bridges]]
name = "lan"
namespace = "gw"
address = ["192.168.15.5/24", "fd00:15::5/64"]
gateway = true
ports = [
  { namespace = "red", address = ["192.168.15.1/24", "fd00:15::1/64"] },
  { namespace = "blue", address = ["192.168.15.2/24", "fd00:15::2/64"] },
]

[[veths]]
ends = [
  { namespace = "gw", name = "wan", address = ["192.168.1.2/24", "fd00:1::2/64"] },
  { namespace = "outside", address = ["192.168.1.3/24", "192.168.1.4/24", "fd00:1::3/64", "fd00:1::4/64"] },
]
""")
Address = tuple[str, int]


@pytest.fixture
def lab(netns: Lab) -> Lab:
    """red and blue behind gw, whose NAT the test sets up; outside has two addresses, IPv4 and IPv6."""
    netns.build(TOPOLOGY)
    return netns


@contextlib.contextmanager
def sockets(*places: tuple[Namespace, str, int]) -> Iterator[list[socket.socket]]:
    """UDP sockets of namespaces, each bound to an address and port."""
    with contextlib.ExitStack() as stack:
        found = []
        for namespace, address, port in places:
            made = stack.enter_context(
                namespace.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
            )
            made.bind((address, port))
            made.settimeout(PATIENCE)
            found.append(made)
        yield found


def ask(client: socket.socket, server: socket.socket, to: Address) -> Address:
    """Send a datagram to a server; returns the client's address as the server sees it."""
    client.sendto(b"ask", to)
    host, port, *_ = server.recvfrom(9)[1]
    return host, port


def gets(client: socket.socket, server: socket.socket, to: Address) -> bool:
    """Whether a server's packet to an outer address reaches the client."""
    server.sendto(b"news", to)
    client.settimeout(SILENCE)
    try:
        return client.recv(9) == b"news"
    except TimeoutError:
        return False
    finally:
        client.settimeout(PATIENCE)


def classify(lab: Lab, version: int, client: str = "red", port: int = 5000) -> tuple[str, str]:
    """Mapping and filtering, in the terms of RFC 4787, by the tests of RFC 5780 section 4.3 and 4.4."""
    outside, (one, two) = lab["outside"], SERVERS[version]
    with sockets(
        (outside, one, PORT), (outside, two, PORT), (outside, one, OTHER_PORT), (lab[client], INSIDE[version] + ("1" if client == "red" else "2"), port),
        (lab[client], INSIDE[version] + ("1" if client == "red" else "2"), port + 1),
    ) as (first, other_address, other_port, asking, filtered):  # fmt: skip
        a, b, c = (
            ask(asking, server, to)
            for server, to in ((first, (one, PORT)), (other_address, (two, PORT)), (other_port, (one, OTHER_PORT)))
        )
        mapping = BEHAVIOURS[0] if a == b == c else BEHAVIOURS[1] if a == c else BEHAVIOURS[2]
        outer = ask(filtered, first, (one, PORT))
        if gets(filtered, other_address, outer):
            return mapping, BEHAVIOURS[0]
        return mapping, BEHAVIOURS[1] if gets(filtered, other_port, outer) else BEHAVIOURS[2]


@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(("mapping", "filtering"), list(itertools.product(BEHAVIOURS, BEHAVIOURS)))
def test_every_behaviour(lab: Lab, mapping: str, filtering: str, version: int) -> None:
    """Each of the three mappings with each of the three kinds of filtering is what its name says, for IPv4 and IPv6."""
    lab["gw"].nat(LAN[version], out="wan", mapping=mapping, filtering=filtering)
    assert classify(lab, version) == (mapping, filtering)


@pytest.mark.parametrize("like", KINDS)
def test_usual_devices(lab: Lab, like: str) -> None:
    """A common device behaves as its name says, and two inner hosts with the same source ports get different outer ports."""
    made = lab["gw"].nat(LAN[4], out="wan", like=like)
    assert classify(lab, 4) == classify(lab, 4, "blue") == (KINDS[like].mapping, KINDS[like].filtering)
    assert made.packets == 8
    with sockets(
        (lab["outside"], SERVERS[4][0], PORT), (lab["red"], "192.168.15.1", 7000), (lab["blue"], "192.168.15.2", 7000)
    ) as (server, red, blue):
        seen = {ask(client, server, (SERVERS[4][0], PORT)) for client in (red, blue, red, blue)}
    assert len(seen) == 2
    assert {address for address, _ in seen} == {OUTER[4]}


def test_many_hosts_and_few_ports(lab: Lab) -> None:
    """Each of eight inner endpoints gets a different port of eight in the range, and keeps it."""
    lab["gw"].nat(LAN[4], out="wan", ports=(20000, 20007))
    with sockets(
        (lab["outside"], SERVERS[4][0], PORT),
        *((lab["red"], "192.168.15.1", 5000 + n) for n in range(4)),
        *((lab["blue"], "192.168.15.2", 5000 + n) for n in range(4)),
    ) as (server, *clients):
        first = [ask(client, server, (SERVERS[4][0], PORT)) for client in clients]
        assert [ask(client, server, (SERVERS[4][0], PORT)) for client in clients] == first
    assert sorted(port for _, port in first) == list(range(20000, 20008))


@pytest.mark.parametrize("like", ["full-cone", "port-restricted"])
def test_tcp(lab: Lab, like: str) -> None:
    """TCP is mapped alike: from one port to any destination; connections from outside get in if filtering allows, else time out."""
    lab["gw"].nat(LAN[4], out="wan", like=like)
    red, outside = lab["red"], lab["outside"]
    seen = []
    with contextlib.ExitStack() as stack:
        for address in SERVERS[4]:
            server = stack.enter_context(outside.socket())
            server.bind((address, PORT))
            server.listen()
            client = stack.enter_context(red.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            client.settimeout(PATIENCE)
            client.bind(("192.168.15.1", 5000))
            client.connect((address, PORT))
            far, peer = server.accept()
            stack.enter_context(far)
            seen.append(peer)
        assert seen[0] == seen[1] == (OUTER[4], 5000)
        waiting = stack.enter_context(red.socket())
        waiting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        waiting.bind(("192.168.15.1", 5000))
        waiting.listen()
        stranger = stack.enter_context(outside.socket())
        stranger.settimeout(PATIENCE if like == "full-cone" else SILENCE)
        stranger.bind((SERVERS[4][1], OTHER_PORT))
        if like == "full-cone":
            stranger.connect(seen[0])
            stack.enter_context(waiting.accept()[0])
        else:
            with pytest.raises(TimeoutError):
                stranger.connect(seen[0])


@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("hairpin", [True, False])
def test_hairpin(lab: Lab, version: int, hairpin: bool) -> None:
    """With hairpin, blue reaches red at red's outer endpoint, and red sees blue's outer one (RFC 4787, REQ-9)."""
    lab["gw"].nat(LAN[version], out="wan", hairpin=hairpin)
    server_at = SERVERS[version][0]
    with sockets(
        (lab["outside"], server_at, PORT),
        (lab["red"], f"{INSIDE[version]}1", 5000),
        (lab["blue"], f"{INSIDE[version]}2", 6000),
    ) as (server, red, blue):
        of_red, of_blue = (ask(client, server, (server_at, PORT)) for client in (red, blue))
        assert gets(red, blue, of_red) is hairpin
        if hairpin:
            blue.sendto(b"again", of_red)
            _, peer = red.recvfrom(9)
            assert peer[:2] == of_blue
            red.sendto(b"back", peer)
            assert blue.recv(9) == b"back"


def test_a_mapping_ends(lab: Lab) -> None:
    """An unused mapping expires after its timeout: then no packet gets in."""
    lab["gw"].nat(LAN[4], out="wan", like="full-cone", timeout=1)
    with sockets(
        (lab["outside"], SERVERS[4][0], PORT), (lab["outside"], SERVERS[4][1], PORT), (lab["red"], "192.168.15.1", 5000)
    ) as (server, stranger, red):
        outer = ask(red, server, (SERVERS[4][0], PORT))
        assert gets(red, stranger, outer)
        tracked = lab["gw"].packet_rules.ruleset.tracked_connections
        lab.wait_until(lambda: not any(each.protocol == "udp" for each in tracked()), timeout=PATIENCE)
        assert not gets(red, stranger, outer)
        assert not gets(red, server, outer)


def test_what_is_unasked_does_not_take_the_port(lab: Lab) -> None:
    """A packet that came too early creates no connection of the gateway: the flow to its sender keeps the mapped port."""
    lab["gw"].nat(LAN[4], out="wan", like="port-restricted")
    with sockets(
        (lab["outside"], SERVERS[4][0], PORT), (lab["outside"], SERVERS[4][1], PORT), (lab["red"], "192.168.15.1", 5000)
    ) as (server, peer, red):
        outer = ask(red, server, (SERVERS[4][0], PORT))
        assert not gets(red, peer, outer)
        assert ask(red, peer, (SERVERS[4][1], PORT)) == outer


def test_forget_connections(lab: Lab) -> None:
    """A rebooted router has no mappings: earlier endpoints are not reached."""
    lab["gw"].nat(LAN[4], out="wan", like="full-cone")
    with sockets((lab["outside"], SERVERS[4][0], PORT), (lab["red"], "192.168.15.1", 5000)) as (server, red):
        outer = ask(red, server, (SERVERS[4][0], PORT))
        assert gets(red, server, outer)
        lab["gw"].forget_connections()
        assert not gets(red, server, outer)
        assert ask(red, server, (SERVERS[4][0], PORT)) == outer


def test_changed_while_it_is_used(lab: Lab) -> None:
    """Another call changes the kind, even that of a masquerade; the old handle reports that it is over."""
    gw = lab["gw"]
    gw.masquerade(LAN[4], out="wan")
    cone = gw.nat(LAN[4], out="wan", like="full-cone")
    assert "masquerade" not in lab.draw()
    assert classify(lab, 4) == (BEHAVIOURS[0], BEHAVIOURS[0])
    symmetric = gw.nat(LAN[4], out="wan", like="symmetric")
    assert classify(lab, 4, port=6000) == (BEHAVIOURS[2], BEHAVIOURS[2])
    with pytest.raises(NetnsError, match="it has been removed"):
        _ = cone.packets
    symmetric.remove()
    with sockets((lab["outside"], SERVERS[4][0], PORT), (lab["red"], "192.168.15.1", 7000)) as (server, red):
        red.sendto(b"ask", (SERVERS[4][0], PORT))
        assert server.recvfrom(9)[1][0] == "192.168.15.1"


def test_two_in_a_row(netns: Lab) -> None:
    """A home router behind a carrier's: from outside it is the stricter of both, and the mapping is the carrier's."""
    netns.build(
        Topology.loads("""
[[namespaces]]
name = "carrier"

[[veths]]
ends = [{ namespace = "red", address = "192.168.15.1/24" }, { namespace = "gw", name = "lan", address = "192.168.15.5/24" }]
[[veths]]
ends = [{ namespace = "gw", name = "wan", address = "100.64.0.2/10" }, { namespace = "carrier", name = "access", address = "100.64.0.1/10" }]
[[veths]]
ends = [{ namespace = "carrier", name = "wan", address = "192.168.1.2/24" }, { namespace = "outside", address = ["192.168.1.3/24", "192.168.1.4/24"] }]

[[routes]]
namespace = "red"
destination = "default"
via = "192.168.15.5"
[[routes]]
namespace = "gw"
destination = "default"
via = "100.64.0.1"

[[nats]]
namespace = "gw"
source = "192.168.15.0/24"
out = "wan"
like = "home"
[[nats]]
namespace = "carrier"
source = "100.64.0.0/10"
out = "wan"
like = "carrier"
ports = "30000-40000"
""")
    )
    assert classify(netns, 4) == (BEHAVIOURS[0], BEHAVIOURS[2])
    assert "NAT 100.64.0.0/10 out wan: endpoint-independent mapping" in netns.draw()


def test_a_port_forward_goes_first(lab: Lab) -> None:
    """A forwarded port passes packets that the NAT's filtering lets in."""
    lab["gw"].nat(LAN[4], out="wan", like="symmetric")
    lab["gw"].forward_port(9000, to="blue", protocol="udp")
    with sockets((lab["outside"], SERVERS[4][0], PORT), (lab["blue"], "192.168.15.2", 9000)) as (client, server):
        assert gets(server, client, (OUTER[4], 9000))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"like": "home", "mapping": BEHAVIOURS[2]}, "'address-and-port-dependent' as mapping of NAT like 'home'"),
        ({"like": "cone"}, "'cone' as kind of NAT: valid are 'home', 'full-cone'.*did you mean 'full-cone'"),
        ({"filtering": "none"}, "'none' as filtering: valid are 'endpoint-independent'"),
        ({"ports": (70, 60)}, r"\(70, 60\) as port"),
        ({"ports": 80000}, "80000 as port"),
        ({"timeout": 0}, "0 as timeout: use a whole number of seconds from 1"),
        ({"hairpin": "yes"}, "'yes' here: valid are true and false"),
    ],
)
def test_mistakes(lab: Lab, options: dict[str, object], said: str) -> None:
    """Invalid arguments are refused with the reason, and nothing changes."""
    with pytest.raises(InvalidTopologyError, match=said):
        lab["gw"].nat(LAN[4], out="wan", **options)  # type: ignore[arg-type]
    assert lab["gw"].ruleset() == ""


def test_networks_that_overlap(lab: Lab) -> None:
    """The networks of two NATs on one interface are disjoint or equal; the error names both."""
    lab["gw"].nat(LAN[4], out="wan")
    with pytest.raises(
        InvalidTopologyError, match=r"192.168.0.0/16 out wan .* 192.168.15.0/24 out wan is already translated"
    ):
        lab["gw"].nat("192.168.0.0/16", out="wan")
    with pytest.raises(InvalidTopologyError, match=r"'wam'.*did you mean 'wan'"):
        lab["gw"].nat(LAN[4], out="wam")


@pytest.mark.parametrize("like", ["home", "full-cone"])
def test_a_port_forward_is_no_mapping(lab: Lab, like: str) -> None:
    """A connection through a port forward creates no mapping: when the forward is removed, the port is closed."""
    gw = lab["gw"]
    gw.nat(LAN[4], out="wan", like=like)
    forward = gw.forward_port(9000, to="blue:80")
    lab["blue"].start("python3 -m http.server 80", ready=80)
    assert lab["outside"].probe(f"{OUTER[4]}:9000") == "open"
    forward.remove()
    assert lab["outside"].probe(f"{OUTER[4]}:9000") == "refused"

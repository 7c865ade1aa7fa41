"""NAT with real packets: masquerade, port forwards from all sides, and changes that apply to existing flows."""

from __future__ import annotations

import socket

import pytest

from pytest_netns import InvalidTopologyError, Lab, MasqueradeSpec, Namespace, RulesetError
from pytest_netns.kernel.netlink import nfwrite
from tests.support.traffic import connection, listen, peer_of_connection, peer_of_datagram, reaches

SUBNETS = {4: ("192.168.15.", "192.168.1."), 6: ("fd00:15::", "fd00:1::")}
LENGTH = {4: 24, 6: 64}
families = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])


def address(version: int, side: int, host: int) -> str:
    """An address of the picture: inside (0) or outside (1)."""
    return f"{SUBNETS[version][side]}{host}"


@pytest.fixture
def picture(netns: Lab) -> Lab:
    """The picture with both families, without NAT."""
    host = netns.host
    both = (4, 6)
    bridge = netns.add_bridge("v-net-0", [f"{address(v, 0, 5)}/{LENGTH[v]}" for v in both])
    for name, number in (("red", 1), ("blue", 2)):
        namespace = netns.add_namespace(name)
        bridge.attach(namespace, [f"{address(v, 0, number)}/{LENGTH[v]}" for v in both])
        for v in both:
            namespace.add_default_route(via=address(v, 0, 5))
    outside = netns.add_namespace("outside")
    netns.add_veth(
        host,
        outside,
        names=("eth0", "eth0"),
        addresses=(
            [f"{address(v, 1, 2)}/{LENGTH[v]}" for v in both],
            [f"{address(v, 1, 3)}/{LENGTH[v]}" for v in both],
        ),
    )
    return netns


@families
@pytest.mark.parametrize("out", ["eth0", None])
def test_masquerade(picture: Lab, version: int, out: str | None) -> None:
    """Outside sees the router's address, and replies reach red; inside the network nothing is masqueraded."""
    red, blue, outside = picture["red"], picture["blue"], picture["outside"]
    picture.host.masquerade(f"{SUBNETS[version][0]}{'0' if version == 4 else ''}/{LENGTH[version]}", out=out)
    with listen(outside, 80) as server:
        assert peer_of_connection(red, address(version, 1, 3), 80, server) == address(version, 1, 2)
    with listen(outside, 9, socket.SOCK_DGRAM) as server:
        assert peer_of_datagram(blue, address(version, 1, 3), 9, server) == address(version, 1, 2)
    with listen(blue, 80) as server:
        assert peer_of_connection(red, address(version, 0, 2), 80, server) == address(version, 0, 1)


def test_masquerade_out_of_another_interface_does_nothing(picture: Lab) -> None:
    """out= is respected: packets by another interface keep their address."""
    picture.host.masquerade("192.168.15.0/24", out=picture.host.interfaces["v-net-0"])
    assert not reaches(picture["red"], "192.168.1.3")


@families
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("way", ["outside", "neighbour", "itself", "gateway"])
def test_forward_port(picture: Lab, version: int, protocol: str, way: str) -> None:
    """The forwarded port reaches blue from outside, from red and blue (hairpin), and from the forwarding namespace itself."""
    host, blue = picture.host, picture["blue"]
    target = address(version, 0, 2)
    host.forward_port(8080, to=f"[{target}]:80" if version == 6 else f"{target}:80", protocol=protocol)
    client = {"outside": picture["outside"], "neighbour": picture["red"], "itself": blue, "gateway": host}[way]
    kind, talk = (
        (socket.SOCK_STREAM, peer_of_connection) if protocol == "tcp" else (socket.SOCK_DGRAM, peer_of_datagram)
    )
    with listen(blue, 80, kind) as server:
        peer = talk(client, address(version, 1, 2), 8080, server)
    if way == "outside":
        assert peer == address(version, 1, 3), "the server sees the real client"


@pytest.mark.parametrize(
    "source", ["192.168.15.0/24", "10.0.0.0/13", "10.1.2.3", "fd00:15::/64", "fd00::/61", "0.0.0.0/0"]
)
@pytest.mark.parametrize("out", ["eth0", None])
def test_masquerade_is_the_same_with_and_without_nft(picture: Lab, source: str, out: str | None) -> None:
    """A single masquerade is added by netlink, several by nft: nft lists the same rules and chains."""
    host, other = picture.host, picture["red"]
    other.run("ip link add eth0 type bridge")
    host.masquerade(source, out=out)
    other.gateway.add([MasqueradeSpec("red", each, out=out) for each in ("172.31.0.0/16", source)])
    rulesets = [each.run("nft -s list ruleset").stdout for each in (host, other)]
    alone, several = ([line.partition(" comment ")[0] for line in text.splitlines()] for text in rulesets)
    assert alone == [line for line in several if "172.31" not in line]
    assert any("masquerade" in line for line in alone)


def test_masquerade_after_one_that_was_interrupted(picture: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception before the kernel is asked, such as Ctrl-C, leaves nothing; the next masquerade creates its tables."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nfwrite, "apply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            picture.host.masquerade("192.168.15.0/24")
    assert picture.host.ruleset() == ""
    picture.host.masquerade("192.168.15.0/24")
    with listen(picture["outside"], 80) as server:
        assert peer_of_connection(picture["red"], "192.168.1.3", 80, server) == "192.168.1.2"


@pytest.mark.parametrize("masquerade_first", [True, False])
def test_masquerade_and_forward(picture: Lab, masquerade_first: bool) -> None:
    """Both work in any order; a gateway that only masquerades has no chain for destinations, which every packet would pass."""
    host, red, blue, outside = (picture[name] for name in ("host", "red", "blue", "outside"))
    if masquerade_first:
        host.masquerade("192.168.15.0/24")
        assert "prerouting" not in host.ruleset()
    host.forward_port(8080, to="blue:80")
    if not masquerade_first:
        host.masquerade("192.168.15.0/24")
    with listen(blue, 80) as server:
        assert peer_of_connection(outside, "192.168.1.2", 8080, server) == "192.168.1.3"
        assert peer_of_connection(red, "192.168.1.2", 8080, server) == "192.168.15.5", (
            "replies return through the gateway"
        )
    with listen(outside, 80) as server:
        assert peer_of_connection(red, "192.168.1.3", 80, server) == "192.168.1.2"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_forwarded_port_of_the_loopback_address(picture: Lab, protocol: str) -> None:
    """127.0.0.1 in the forwarding namespace reaches blue too."""
    picture.host.forward_port(8080, to="blue:80", protocol=protocol)
    kind, talk = (
        (socket.SOCK_STREAM, peer_of_connection) if protocol == "tcp" else (socket.SOCK_DGRAM, peer_of_datagram)
    )
    with listen(picture["blue"], 80, kind) as server:
        talk(picture.host, "127.0.0.1", 8080, server)


@families
def test_forward_to_a_namespace_is_for_both_families(picture: Lab, version: int) -> None:
    """to="blue" stands for all of its addresses, and without a port for the same port."""
    picture.host.forward_port(80, to="blue")
    with listen(picture["blue"], 80) as server:
        assert peer_of_connection(picture["outside"], address(version, 1, 2), 80, server) == address(version, 1, 3)


def test_a_forwarded_port_is_only_that_port_and_protocol(picture: Lab) -> None:
    """Other ports, and the same port of the other protocol, still belong to the host."""
    host, outside = picture.host, picture["outside"]
    host.forward_port(8080, to="blue:80")
    with listen(host, 8081) as server:
        assert peer_of_connection(outside, "192.168.1.2", 8081, server) == "192.168.1.3"
    with listen(host, 8080, socket.SOCK_DGRAM) as server:
        assert peer_of_datagram(outside, "192.168.1.2", 8080, server) == "192.168.1.3"


def test_what_passes_through_is_not_forwarded(picture: Lab) -> None:
    """Only the host's own addresses are forwarded: red reaches port 8080 of outside itself."""
    host = picture.host
    host.masquerade("192.168.15.0/24", out="eth0")
    host.forward_port(8080, to="blue:80")
    with listen(picture["outside"], 8080) as server:
        assert peer_of_connection(picture["red"], "192.168.1.3", 8080, server) == "192.168.1.2"


def test_a_later_forward_takes_effect_for_tracked_flows(picture: Lab) -> None:
    """A UDP flow that host itself answered reaches blue as soon as its port is forwarded, from the same socket."""
    host, blue, outside = picture.host, picture["blue"], picture["outside"]
    host.masquerade("192.168.15.0/24", out="eth0")
    with (
        listen(host, 53, socket.SOCK_DGRAM) as before,
        listen(blue, 53, socket.SOCK_DGRAM) as after,
        outside.socket(type=socket.SOCK_DGRAM) as client,
    ):
        client.connect(("192.168.1.2", 53))
        client.send(b"one")
        assert before.recv(9) == b"one"
        host.forward_port(53, to="blue:53", protocol="udp")
        client.send(b"two")
        assert after.recv(9) == b"two"


def test_the_first_forward_takes_effect_for_tracked_flows(picture: Lab) -> None:
    """The same if nft rules had connections tracked before the first NAT rule of the plugin."""
    host, blue, outside = picture.host, picture["blue"], picture["outside"]
    host.nft("table inet mine { chain c { type filter hook input priority 0; ct state established accept; }; }")
    with (
        listen(host, 53, socket.SOCK_DGRAM) as before,
        listen(blue, 53, socket.SOCK_DGRAM) as after,
        outside.socket(type=socket.SOCK_DGRAM) as client,
    ):
        client.connect(("192.168.1.2", 53))
        client.send(b"one")
        assert before.recv(9) == b"one"
        host.forward_port(53, to="blue:53", protocol="udp")
        client.send(b"two")
        assert after.recv(9) == b"two"


def test_nft_changes_take_effect_for_tracked_flows(picture: Lab) -> None:
    """Rules given as nft text apply to existing flows too."""
    host, blue, outside = picture.host, picture["blue"], picture["outside"]
    host.forward_port(53, to="blue:53", protocol="udp")
    with (
        listen(host, 5353, socket.SOCK_DGRAM) as after,
        listen(blue, 53, socket.SOCK_DGRAM) as before,
        outside.socket(type=socket.SOCK_DGRAM) as client,
    ):
        client.connect(("192.168.1.2", 53))
        client.send(b"one")
        assert before.recv(9) == b"one"
        host.nft(
            "table ip mine { chain p { type nat hook prerouting priority -150; udp dport 53 redirect to :5353; }; }"
        )
        client.send(b"two")
        assert after.recv(9) == b"two"


def test_an_established_connection_survives_other_rules(picture: Lab) -> None:
    """A connection whose translation the changed rules keep continues."""
    host, outside = picture.host, picture["outside"]
    host.forward_port(8080, to="blue:80")
    with listen(picture["blue"], 80) as server, connection(outside, "192.168.1.2", 8080, server) as (near, far, _):
        host.forward_port(8081, to="red:80")
        near.sendall(b"more")
        assert far.recv(9) == b"more"


def test_nft_and_ruleset(picture: Lab) -> None:
    """Any nft text is applied, its output is returned, and the whole ruleset can be read."""
    host = picture.host
    assert host.ruleset() == ""
    host.nft("add table inet mine\nadd chain inet mine c { type filter hook input priority 0; }")
    host.nft("add rule inet mine c tcp dport 81 drop")
    assert "tcp dport 81 drop" in host.ruleset()
    assert "table inet mine" in host.nft("list tables")
    assert host.ruleset().strip() == host.run(["nft", "list", "ruleset"]).stdout.strip()
    assert picture["red"].ruleset() == ""


def test_nft_refusals_show_the_place(picture: Lab) -> None:
    """A refused text is shown with nft's message and position, and nothing of it is applied."""
    text = "add table inet mine; add rule inet mine nonsense dorp"
    with pytest.raises(RulesetError) as caught:
        picture.host.nft(text)
    assert (caught.value.ruleset, caught.value.namespace) == (text, "host")
    lines = caught.value.nft_message.splitlines()
    assert "syntax error" in lines[0]
    position = lines[lines.index(text) + 1]  # newer versions first list what they expected
    assert position.index("^") == len(text), "nft points behind the unfinished expression"
    assert "cannot apply nft ruleset in namespace 'host'" in str(caught.value)
    assert "nonsense" in str(caught.value)
    assert picture.host.ruleset() == ""


def test_our_rules_leave_the_users_alone(picture: Lab) -> None:
    """Masquerade and port forwards only change their own table."""
    host = picture.host
    host.nft("add table inet mine")
    host.masquerade("192.168.15.0/24", out="eth0")
    host.forward_port(8080, to="blue:80")
    host.masquerade("fd00:15::/64")
    assert "table inet mine" in host.ruleset()
    assert "8080" in host.ruleset()
    assert host.ruleset().count(" masquerade comment") == 4


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda host: host.forward_port(0, to="blue:80"), "cannot use 0 as port.*1 to 65535"),
        (lambda host: host.forward_port(65536, to="blue:80"), "cannot use 65536 as port.*1 to 65535"),
        (lambda host: host.forward_port("http", to="blue:80"), "cannot use 'http' as port.*1 to 65535"),
        (lambda host: host.forward_port(80, to="blue:0"), "'blue:0'.*1 to 65535"),
        (lambda host: host.forward_port(80, to="blue:http"), "'blue:http'.*not a port"),
        (lambda host: host.forward_port(80, to="bleu:80"), "'bleu'.*did you mean 'blue'"),
        (lambda host: host.forward_port(80, to="blue:80", protocol="upd"), "'upd'.*did you mean 'udp'"),
        (lambda host: host.forward_port(80, to="1.2.3:80"), "'1.2.3' is neither an address nor"),
        (lambda host: host.masquerade("192.168.15.1/24"), "'192.168.15.0/24' would be valid"),
        (lambda host: host.masquerade("inside; drop"), "'inside; drop' as masquerade source"),
        (lambda host: host.masquerade("192.168.15.0/24", out="eht0"), "'eht0'.*did you mean 'eth0'"),
        (lambda host: host.masquerade("192.168.15.0/24", out='eth0" drop; #'), "as interface of namespace 'host'"),
    ],
)
def test_bad_rules_change_nothing(picture: Lab, change: object, hint: str) -> None:
    """An invalid rule is refused with the value and the valid ones, and the ruleset stays unchanged."""
    with pytest.raises(InvalidTopologyError, match=hint):
        change(picture.host)  # type: ignore[operator]
    assert picture.host.ruleset() == ""


def test_a_port_can_be_forwarded_once(picture: Lab) -> None:
    """The same port and protocol again is refused; another protocol is not."""
    host: Namespace = picture.host
    host.forward_port(53, to="blue:53")
    with pytest.raises(
        InvalidTopologyError, match="tcp port 53 of namespace 'host' to red:53: it is already forwarded to"
    ):
        host.forward_port(53, to="red:53")
    host.forward_port(53, to="blue:53", protocol="udp")

"""The results of `Namespace.probe`, each from a real port."""

from __future__ import annotations

import pytest

from pytest_netns import InvalidTopologyError, Lab

FIREWALL = """
table inet firewall {
  chain input {
    type filter hook input priority 0
    tcp dport 81 drop
    tcp dport 82 reject with tcp reset
    tcp dport 83 reject with icmpx type admin-prohibited
    tcp dport 84 reject with icmpx type no-route
    udp dport 83 reject with icmpx type admin-prohibited
    udp dport 85 reject
  }
}
"""


@pytest.mark.parametrize("address", ["192.168.15.2", "[fd00::2]"])
def test_each_answer(address: str) -> None:
    """Open, refused, dropped, rejected in each way, over IPv4 and IPv6."""
    with Lab("probe") as lab:
        red, blue = lab.add_namespace("red"), lab.add_namespace("blue")
        lab.add_veth(red, blue, addresses=(["192.168.15.1/24", "fd00::1/64"], ["192.168.15.2/24", "fd00::2/64"]))
        blue.nft(FIREWALL)
        blue.start(["python3", "-m", "http.server", "--bind", "::", "80"], ready=80)
        answers = {port: red.probe(f"{address}:{port}", timeout=0.5) for port in (80, 81, 82, 83, 84, 99)}
        assert answers == {
            80: "open",
            81: "timeout",
            82: "refused",
            83: "prohibited",
            84: "unreachable",
            99: "refused",
        }
        assert [red.probe(f"{address}:{port}", "udp", timeout=0.5) for port in (83, 85)] == ["prohibited", "refused"]


def test_routes_that_say_no() -> None:
    """Without a route, with a prohibit route, with a blackhole route."""
    with Lab("probe") as lab:
        red = lab.add_namespace("red")
        assert red.probe("10.9.9.9:80") == "unreachable"
        red.run("ip route add prohibit 10.9.9.0/24")
        assert red.probe("10.9.9.9:80") == "prohibited"


def test_udp_that_answers_is_open() -> None:
    """A UDP service that answers is open; a silent one looks like a drop."""
    with Lab("probe") as lab:
        red = lab.add_namespace("red")
        echo = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('127.0.0.1', 7)); s.sendto(b'!', s.recvfrom(9)[1])"
        red.start(["python3", "-c", echo], ready="udp/7")
        assert red.probe("127.0.0.1:7", "udp", timeout=5) == "open"


def test_by_name_of_a_namespace(netns_pair: Lab) -> None:
    """A namespace's name stands for its address; without an address, or without a port, there is an error."""
    red = netns_pair["red"]
    assert red.probe("blue:80") == "refused"
    with pytest.raises(InvalidTopologyError, match="cannot probe 'blue': it needs a port"):
        red.probe("blue")
    with pytest.raises(InvalidTopologyError, match="valid are 'tcp', 'udp'"):
        red.probe("blue:80", "sctp")
    with pytest.raises(InvalidTopologyError, match="cannot probe with time-out 0"):
        red.probe("blue:80", timeout=0)

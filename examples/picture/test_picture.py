"""The picture that introductions to network namespaces draw, as tests to copy from.

outside 192.168.1.3                      nothing here knows 192.168.15.0/24
     |
  eth0 192.168.1.2
+---------------- host ----------------+
|  v-net-0 (bridge) 192.168.15.5/24    |
+------+------------------------+------+
    veth-red                veth-blue
    red 192.168.15.1        blue 192.168.15.2
"""

import pytest

from pytest_netns import CommandError

PING = ["ping", "-c1", "-W1"]


def test_a_cable_joins_two_namespaces(netns):
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    assert list(red.interfaces) == ["lo"]
    near, far = netns.add_veth(red, blue, addresses=("192.168.15.1/24", "192.168.15.2/24"))
    red.run([*PING, "192.168.15.2"])
    assert [neighbour.mac for neighbour in red.neighbours() if neighbour.address.version == 4] == [far.mac]
    near.delete()
    assert list(blue.interfaces) == ["lo"]


def test_a_bridge_joins_many(netns):
    bridge = netns.add_bridge("v-net-0")
    for number, name in enumerate(["red", "blue", "green"], start=1):
        bridge.attach(netns.add_namespace(name), f"192.168.15.{number}/24")
    netns["red"].run([*PING, "192.168.15.3"])
    with pytest.raises(CommandError, match="Network is unreachable"):
        netns.host.run([*PING, "192.168.15.1"])
    bridge.add_address("192.168.15.5/24")
    netns.host.run([*PING, "192.168.15.1"])


def test_a_route_leads_out_and_masquerade_brings_replies_back(netns_lan):
    host, red, outside = netns_lan.host, netns_lan["red"], netns_lan.add_namespace("outside")
    netns_lan.add_veth(host, outside, addresses=("192.168.1.2/24", "192.168.1.3/24"), names=("eth0", "eth0"))
    with pytest.raises(CommandError):
        red.run([*PING, "192.168.1.3"])
    host.masquerade("192.168.15.0/24", out="eth0")
    red.run([*PING, "192.168.1.3"])


def test_a_port_forward_leads_in(netns_nat):
    host, blue, outside = netns_nat.host, netns_nat["blue"], netns_nat["outside"]
    blue.start(["python3", "-m", "http.server", "80"], ready=80)
    fetch = ["curl", "-sS", "--max-time", "5", "-o", "/dev/null", "http://192.168.1.2:8080/"]
    with pytest.raises(CommandError, match=r"(?i)could.?n.t connect|failed to connect"):
        outside.run(fetch)
    host.forward_port(8080, to="blue:80")
    outside.run(fetch)


@pytest.mark.netns("nat", enter="red")
def test_python_runs_inside_too(netns):
    import socket

    server = netns["outside"].socket()
    with server:
        server.bind(("192.168.1.3", 80))
        server.listen()
        with socket.create_connection(("192.168.1.3", 80), timeout=5):
            connection, peer = server.accept()
            connection.close()
    assert peer[0] == "192.168.1.2"  # masqueraded

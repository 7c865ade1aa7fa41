"""The picture of every introduction to network namespaces, as tests to copy from.

outside 192.168.1.3                      has no route to 192.168.15.0/24
     |
  eth0 192.168.1.2
+---------------- host ----------------+
|  v-net-0 (bridge) 192.168.15.5/24    |
+------+------------------------+------+
    veth-red                veth-blue
    red 192.168.15.1        blue 192.168.15.2
"""

import socket

import pytest

from pytest_netns import CommandError, Lab


def test_a_link_joins_two_namespaces(netns: Lab) -> None:
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    near, far = netns.add_veth(red, blue, addresses=("192.168.15.1/24", "192.168.15.2/24"))
    red.run("ping -c1 192.168.15.2")
    assert [each.mac for each in red.neighbours() if each.address.version == 4] == [far.mac]
    near.delete()
    assert list(blue.interfaces) == ["lo"]


def test_a_bridge_joins_many(netns: Lab) -> None:
    bridge = netns.add_bridge("v-net-0")
    for number, name in enumerate(["red", "blue", "green"], start=1):
        bridge.attach(netns.add_namespace(name), f"192.168.15.{number}/24")
    netns["red"].run("ping -c1 192.168.15.3")
    with pytest.raises(CommandError, match="Network is unreachable"):
        netns.host.run("ping -c1 192.168.15.1")
    bridge.add_address("192.168.15.5/24")
    netns.host.run("ping -c1 192.168.15.1")


def test_masquerade_brings_replies_back(netns_lan: Lab) -> None:
    host, outside = netns_lan.host, netns_lan.add_namespace("outside")
    netns_lan.add_veth(host, outside, addresses=("192.168.1.2/24", "192.168.1.3/24"), names=("eth0", "eth0"))
    with pytest.raises(CommandError, match="100% packet loss"):
        netns_lan["red"].run("ping -c1 -W1 192.168.1.3")
    host.masquerade("192.168.15.0/24", out="eth0")
    netns_lan["red"].run("ping -c1 192.168.1.3")


def test_a_port_forward_leads_in(netns_nat: Lab) -> None:
    netns_nat["blue"].start(["python3", "-m", "http.server", "80"], ready=80)
    with pytest.raises(CommandError, match=r"curl: \(7\)"):
        netns_nat["outside"].run("curl -sS http://192.168.1.2:8080/")
    netns_nat.host.forward_port(8080, to="blue:80")
    netns_nat["outside"].run("curl -sS http://192.168.1.2:8080/")


@pytest.mark.netns("nat", enter="red")
def test_python_runs_inside_too(netns: Lab) -> None:
    with netns["outside"].create_server(("192.168.1.3", 80)) as server:
        with socket.create_connection(("192.168.1.3", 80), timeout=5):
            connection, peer = server.accept()
            connection.close()
    assert peer[0] == "192.168.1.2"  # masqueraded

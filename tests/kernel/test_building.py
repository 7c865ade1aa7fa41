"""Everything in a topology is in force in the kernel once it is built."""

from __future__ import annotations

import pytest

from pytest_netns import CommandError, Lab, Topology

OFFICE = """
[[namespaces]]
name = "red"
hostnames = ["desk.example.com", "red.example.com"]
sysctls = { "net.ipv4.conf.eth0.rp_filter" = 1, "net.ipv4.ip_default_ttl" = 33 }

[[namespaces]]
name = "blue"
nft = '''
table inet mine {
  chain input {
    type filter hook input priority 0; policy accept;
    icmp type echo-request ip ttl 33 counter drop
  }
}
'''

[[bridges]]
name = "br0"
subnet = "10.3.0.0/24"
subnet6 = "fd00:3::/64"
gateway = true
mtu = 1400
ports = [{ namespace = "red", name = "eth0", mac = "02:00:00:00:00:01" },
         { namespace = "blue", name = "eth0", mtu = 1300 },
         { namespace = "far" }]

[[veths]]
subnet = "10.4.0.0/30"
subnet6 = "fd00:4::/126"
mtu = 1500
ends = [{ namespace = "far", name = "up" }, { namespace = "beyond", name = "down" }]

[[routes]]
namespace = "beyond"
destination = "10.3.0.0/24"
via = "far"

[[masquerades]]
namespace = "far"
source = "10.3.0.0/24"
out = "up"
"""


def test_everything_in_a_topology(netns: Lab) -> None:
    """Sysctls, host names, nft rules, MTUs, MACs, addresses of both families and routes: as written, and in effect."""
    netns.build(Topology.loads(OFFICE))
    red, blue, far = netns["red"], netns["blue"], netns["far"]
    eth0 = red.interfaces["eth0"]
    assert (eth0.mac, eth0.mtu) == ("02:00:00:00:00:01", 1400)
    assert [str(each) for each in eth0.addresses if not each.is_link_local] == ["10.3.0.1/24", "fd00:3::1/64"]
    assert [netns.host.interfaces[name].mtu for name in ("br0", "veth-red-br", "veth-blue-br")] == [1400, 1400, 1300]
    assert far.interfaces["up"].mtu == 1500
    assert {str(route.via) for route in red.routes() if route.is_default} == {"10.3.0.254", "fd00:3::fe"}
    assert red.sysctl("net.ipv4.conf.eth0.rp_filter") == "1"

    far.run("ping -c1 desk.example.com")
    far.run("ping -c1 -6 fd00:3::2")
    netns["beyond"].run("ping -c1 -W2 10.3.0.3")
    with pytest.raises(CommandError, match="100% packet loss"):
        red.run("ping -c1 -W1 10.3.0.2")  # blue's rule matches its time to live
    assert "counter packets 1 " in blue.ruleset()


def test_built_in_a_lab_with_namespaces(netns: Lab) -> None:
    """A topology can be added to a lab; an existing namespace is used, an existing interface is an error."""
    red = netns.add_namespace("red")
    netns.build(Topology.loads(OFFICE))
    assert netns["red"] is red
    with pytest.raises(
        Exception, match="cannot add interface 'br0' to namespace 'host': it already has one of that name"
    ):
        netns.build(Topology.loads(OFFICE))

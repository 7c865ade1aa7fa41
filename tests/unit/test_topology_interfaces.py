"""Interfaces of other kinds in a topology: read, checked, drawn, and written back."""

from __future__ import annotations

import pytest

from pytest_netns import InvalidTopologyError, LinkSpec, RouteSpec, Topology, VethEnd, VethSpec

CABLE = VethSpec([VethEnd("red", name="eth0"), VethEnd("blue", name="eth0")])
TOML = """
[[veths]]
ends = [{ namespace = "red", name = "eth0" }, { namespace = "blue", name = "eth0" }]

[[interfaces]]
namespace = "red"
name = "eth0.10"
kind = "vlan"
link = "eth0"
vlan_id = 10
address = "10.0.10.1/24"

[[interfaces]]
namespace = "blue"
name = "eth0.10"
kind = "vlan"
link = "eth0"
id = 10
address = "10.0.10.2/24"

[[interfaces]]
namespace = "blue"
name = "wg0"
kind = "wireguard"
peers = [{ public_key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", allowed_ips = ["10.8.0.0/24"] }]

[[routes]]
namespace = "red"
destination = "10.7.0.0/16"
via = "blue"
"""


def test_interfaces_are_read_and_written() -> None:
    """Keys that no other field has are the kind's options; written and read again, the value is the same."""
    topology = Topology.loads(TOML)
    assert topology.links[0] == LinkSpec("red", "eth0.10", kind="vlan", link="eth0", vlan_id=10, address="10.0.10.1/24")
    assert dict(topology.links[2].options)["peers"][0]["allowed_ips"] == ["10.8.0.0/24"]
    assert Topology.loads(topology.dumps()) == topology
    assert topology.assigned() != topology
    assert Topology.loads(topology.assigned().dumps()) == topology.assigned()


def test_interfaces_are_drawn() -> None:
    """The drawing shows the kind and its important values, and a gateway given by name is found over a VLAN."""
    drawing = Topology.loads(TOML).draw()
    assert "eth0.10  10.0.10.1/24  vlan  VLAN 10  on eth0" in drawing
    assert "10.7.0.0/16 via 10.0.10.2" in drawing


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        (LinkSpec("red", "x", kind="vlann"), r"interfaces\[0\]\.kind: cannot use 'vlann' as kind of interface: .*did you mean 'vlan'"),
        (LinkSpec("red", "x", kind="vlan", link="eth0"), r"interfaces\[0\]: cannot add vlan interface: it needs vlan_id"),
        (LinkSpec("red", "x", kind="vlan", vlan_id=1), r"interfaces\[0\]\.link: is missing: a vlan interface needs link"),
        (LinkSpec("red", "x", kind="vlan", id=1, link="eth1"), r"interfaces\[0\]\.link: cannot use 'eth1' as interface of 'red'"),
        (LinkSpec("red", "x", kind="dummy", master="br0"), r"interfaces\[0\]\.master: cannot use 'br0' as interface of 'red'"),
        (LinkSpec("red", "x", kind="vlan", id="ten", link="eth0"), r"interfaces\[0\]: cannot use 'ten': use a whole number"),
        (LinkSpec("red", "eth0", kind="dummy"), "cannot use 'eth0' twice in namespace 'red'"),
        (LinkSpec("red", "x", kind="dummy", address="10.0.0.1"), r"interfaces\[0\]\.address: .*it needs a prefix length"),
    ],
)  # fmt: skip
def test_mistakes_in_interfaces(link: LinkSpec, problem: str) -> None:
    """Each mistake is shown with its place and the valid values."""
    with pytest.raises(InvalidTopologyError, match=problem):
        Topology(veths=[CABLE], links=[link])


def test_namespaces_and_routes_of_interfaces() -> None:
    """A namespace that only an interface mentions is created; the interface's network counts as one of its networks."""
    topology = Topology(
        links=[LinkSpec("alone", "lo1", kind="dummy", address="10.5.0.1/24")],
        routes=[RouteSpec("alone", "10.6.0.0/16", via="10.5.0.2")],
    )
    assert topology.namespace_names == ("alone",)
    assert [each.name for each in topology.interfaces] == ["lo1"]

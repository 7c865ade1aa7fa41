"""Two departments on one Open vSwitch: VLANs separate them, a trunk connects another floor, OpenFlow blocks a host."""

import pytest

from pytest_netns import Lab, OpenVSwitch


@pytest.fixture
def floors(netns: Lab) -> Lab:
    """A switch on each of two floors, joined by a trunk; sales in VLAN 10, lab in VLAN 20."""
    for floor in ("ground", "first"):
        netns.add_bridge("ovs0", kind="openvswitch", namespace=netns.add_namespace(floor))
    trunk = netns.add_veth(netns["ground"], netns["first"], names=("trunk", "trunk"), offload=False)
    for end in trunk:
        switch(netns, end.namespace.name).add_port(end, trunks=[10, 20])
    for number, (name, floor, vlan) in enumerate(
        [("sales-1", "ground", 10), ("sales-2", "first", 10), ("lab-1", "ground", 20), ("lab-2", "first", 20)], 1
    ):
        switch(netns, floor).attach(netns.add_namespace(name), f"10.0.0.{number}/24", tag=vlan)
    return netns


def switch(lab: Lab, floor: str) -> OpenVSwitch:
    found = lab[floor].interfaces["ovs0"]
    assert isinstance(found, OpenVSwitch)
    return found


def test_a_department_sees_itself_on_both_floors(floors: Lab) -> None:
    assert floors["sales-1"].probe("sales-2:80") == "refused"
    assert floors["lab-1"].probe("lab-2:80") == "refused"
    assert floors["sales-1"].probe("lab-1:80") == "timeout"


def test_the_trunk_carries_tags(floors: Lab) -> None:
    with floors.capture() as packets:
        floors["lab-1"].run("ping -c1 -W1 lab-2")
    assert {packet.vlan for packet in packets if packet.interface == "trunk" and packet.protocol == "icmp"} == {20}


def test_a_host_is_blocked_by_openflow(floors: Lab) -> None:
    ground = switch(floors, "ground")
    ground.add_flow("priority=10,ip,nw_src=10.0.0.1,actions=drop")
    assert floors["sales-1"].probe("sales-2:80") == "timeout"
    assert floors["lab-1"].probe("lab-2:80") == "refused"
    (rule,) = [flow for flow in ground.flows() if "nw_src" in flow]
    assert "n_packets=0" not in rule
    ground.remove_flows("ip,nw_src=10.0.0.1")
    assert floors["sales-1"].probe("sales-2:80") == "refused"

"""Open vSwitch as the other kind of bridge: daemons that belong to the lab, VLANs, OpenFlow."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import pytest

from pytest_netns import CommandError, InvalidTopologyError, Lab, Namespace, OpenVSwitch, UnavailableError
from pytest_netns.lab import openvswitch

TUN = "/dev/net/tun"
needs_tun = pytest.mark.skipif(
    not os.access(TUN, os.R_OK | os.W_OK), reason=f"needs root: {TUN} may not be opened by this user"
)


def switch_of(lab: Lab, name: str = "ovs0", **options: Any) -> OpenVSwitch:
    made = lab.add_bridge(name, kind="openvswitch", **options)
    assert isinstance(made, OpenVSwitch)
    return made


def members(lab: Lab, switch: OpenVSwitch, *tags: int | None) -> list[Namespace]:
    """Namespaces n1, n2 ... on the switch, 10.0.0.1 ..., each in a VLAN or in none."""
    found = []
    for number, tag in enumerate(tags, 1):
        found.append(lab.add_namespace(f"n{number}"))
        switch.attach(found[-1], f"10.0.0.{number}/24", tag=tag)
    return found


def reaches(source: Namespace, address: str) -> bool:
    return source.run(["ping", "-c1", "-W1", address], check=False).returncode == 0


@needs_tun
def test_it_switches(netns: Lab) -> None:
    """Namespaces on it reach each other and the host, by ICMP, UDP and TCP with several packets; it has an address and an MTU."""
    switch = switch_of(netns, address="10.0.0.254/24", mtu=1400)
    n1, n2 = members(netns, switch, None, None)
    n2.start(["python3", "-m", "http.server", "--directory", "/usr/bin", "80"], ready=80)
    assert reaches(n1, "10.0.0.2")
    assert reaches(netns.host, "10.0.0.1")
    size = os.path.getsize("/usr/bin/openssl")
    assert n1.run("curl -sS http://10.0.0.2/openssl -o /dev/null -w %{size_download}").stdout == str(size)
    assert netns.host.interfaces["ovs0"].mtu == 1400
    assert [str(each) for each in switch.addresses if each.version == 4] == ["10.0.0.254/24"]


@needs_tun
def test_vlans(netns: Lab) -> None:
    """Ports with a tag reach only those of the same VLAN; a trunk passes its VLANs with tags to another switch."""
    switch, other = switch_of(netns), switch_of(netns, namespace=netns.add_namespace("other"))
    n1, n2, _ = members(netns, switch, 10, 20, 10)
    assert reaches(n1, "10.0.0.3")
    assert not reaches(n1, "10.0.0.2")
    trunk = netns.add_veth(switch.namespace, other.namespace, names=("trunk", "trunk"), offload=False)
    switch.add_port(trunk.a, trunks=[20, 30])
    other.add_port(trunk.b, trunks=[20, 30])
    n4, n5 = netns.add_namespace("n4"), netns.add_namespace("n5")
    other.attach(n4, "10.0.0.4/24", tag=20)
    other.attach(n5, "10.0.0.5/24", tag=10)
    assert reaches(n2, "10.0.0.4")
    assert not reaches(n1, "10.0.0.5")
    assert "port of ovs0, VLAN 10" in netns.draw()
    assert "port of ovs0, VLAN 20 (tagged), 30 (tagged)" in netns.draw()


@needs_tun
def test_flows(netns: Lab) -> None:
    """OpenFlow rules apply at once, and are listed with exact counts; an invalid one gives ovs-ofctl's error."""
    switch = switch_of(netns)
    n1, n2 = members(netns, switch, None, None)
    n2.start(["python3", "-m", "http.server", "80"], ready=80)
    assert reaches(n1, "10.0.0.2")
    switch.add_flow("priority=10,icmp,actions=normal")
    n1.run("ping -c20 -i0.002 10.0.0.2")
    assert any("icmp" in flow and "n_packets=40," in flow for flow in switch.flows())
    switch.add_flow("priority=10,icmp,actions=drop")
    assert not reaches(n1, "10.0.0.2")
    switch.remove_flows("icmp")
    assert reaches(n1, "10.0.0.2")
    switch.add_flow("priority=10,icmp,actions=drop")
    assert n1.probe("10.0.0.2:80") == "open"
    with pytest.raises(CommandError, match="nonsense"):
        switch.add_flow("nonsense")
    with pytest.raises(InvalidTopologyError, match="cannot add flow ''"):
        switch.add_flow("")


@needs_tun
def test_several_at_once_and_faults(netns: Lab) -> None:
    """Several switches in one namespace, in several, and in several labs do not interfere; cuts work on them."""
    first, second = switch_of(netns, "ovs0"), switch_of(netns, "ovs1")
    other = netns.add_namespace("other")
    third = switch_of(netns, "ovs0", namespace=other)
    with Lab("second") as lab:
        a, b = members(lab, switch_of(lab), None, None)
        n1, n2 = members(netns, first, None, None)
        assert reaches(a, "10.0.0.2")
        assert reaches(n1, "10.0.0.2")
        with netns.partition(["n1"], ["n2"]):
            assert not reaches(n1, "10.0.0.2")
            assert reaches(b, "10.0.0.1")
    assert reaches(n2, "10.0.0.1")
    second.attach(n1, "10.0.1.1/24", name="eth1")
    third.attach(n2, "10.0.1.2/24", name="eth1")
    assert not reaches(n1, "10.0.1.2")


@needs_tun
def test_a_switch_that_dies(netns: Lab) -> None:
    """Its daemon is a service of the namespace: if it is killed, packets stop, and the lab still closes cleanly."""
    switch = switch_of(netns)
    n1, _ = members(netns, switch, None, None)
    assert reaches(n1, "10.0.0.2")
    daemon = next(each for each in netns.host.programs.processes if "ovs-vswitchd" in str(each.args))
    daemon.kill()
    netns.wait_until(lambda: not reaches(n1, "10.0.0.2"), timeout=10)


@needs_tun
def test_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """No daemon and no file remains after a lab."""
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        with Lab("leaving") as lab:
            switch_of(lab)
            daemons = lab.host.programs.processes
            assert os.listdir(directory)
        assert not os.listdir(directory)
        assert all(each.returncode is not None for each in daemons)


@needs_tun
def test_what_it_cannot_do(netns: Lab) -> None:
    """Invalid VLANs, options of the other kind, used names: each is named."""
    switch = switch_of(netns)
    red = netns.add_namespace("red")
    with pytest.raises(InvalidTopologyError, match="cannot use 5000 as VLAN: use a number from 1 to 4094"):
        switch.attach(red, tag=5000)
    with pytest.raises(InvalidTopologyError, match="cannot use 'stp' for an Open vSwitch bridge"):
        switch_of(netns, "ovs1", stp=True)
    with pytest.raises(InvalidTopologyError, match=r"namespace 'host' already has an interface of that name"):
        switch_of(netns)
    assert set(red.interfaces) == {"lo"}


def test_another_kind_of_bridge(netns: Lab) -> None:
    """The error for an unknown kind lists the known ones."""
    with pytest.raises(
        InvalidTopologyError, match=r"cannot use 'openvswich' as kind of bridge: .*did you mean 'openvswitch'"
    ):
        netns.add_bridge("ovs0", kind="openvswich")


def test_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is not installed, or without /dev/net/tun, the error names the remedy."""
    monkeypatch.setattr(openvswitch, "_TUN", "/nowhere")
    monkeypatch.setattr(openvswitch, "_KERNEL_MODULE", "/nowhere")
    with pytest.raises(UnavailableError, match=r"this user may not open\n.*sudo chmod 666"):
        openvswitch.check_available()
    monkeypatch.setattr(openvswitch, "_PATH", "/nowhere")
    with pytest.raises(UnavailableError, match=r"not installed\n.*sudo apt-get install openvswitch-switch"):
        openvswitch.check_available()

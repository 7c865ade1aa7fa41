"""A namespace can be removed from a lab while the others keep working."""

from __future__ import annotations

import os
import subprocess

import pytest

from pytest_netns import InvalidTopologyError, Lab, LabClosedError


def test_remove_a_namespace(netns_lan: Lab) -> None:
    """Its programs end, its veth ends and their peers are gone at once, and so is its name; the others keep working."""
    red, blue, host = (netns_lan[name] for name in ("red", "blue", "host"))
    program = blue.popen(["sleep", "1000"])
    with blue:
        by_python = subprocess.Popen(["sleep", "1000"])
    red.run(["ping", "-c1", "-W2", "blue"])
    netns_lan.remove_namespace(blue)
    assert program.poll() is not None
    assert by_python.wait(10) is not None
    assert "blue" not in netns_lan
    assert [each.name for each in netns_lan] == ["host", "red"]
    assert "veth-blue-br" not in host.interfaces
    assert red.run(["getent", "hosts", "blue"], check=False).returncode == 2
    red.run(["ping", "-c1", "-W2", "192.168.15.5"])
    with pytest.raises(LabClosedError, match="'blue': its lab is closed, or it was removed"):
        blue.run(["true"])
    assert "blue" not in netns_lan.draw()


def test_its_name_can_be_given_again(netns_lan: Lab) -> None:
    """Another namespace with the same name is a new one, on the same bridge."""
    red, host = netns_lan["red"], netns_lan["host"]
    netns_lan.remove_namespace("blue")
    blue = netns_lan.add_namespace("blue")
    bridge = host.interfaces["v-net-0"]
    bridge.attach(blue, address="192.168.15.2/24")  # type: ignore[attr-defined]
    red.run(["ping", "-c1", "-W2", "blue"])
    blue.run(["ping", "-c1", "-W2", "red"])
    assert blue.address == "192.168.15.2"
    assert [str(each) for each in blue.addresses] == ["192.168.15.2/24"]


def test_again_and_again_leaves_nothing() -> None:
    """A lab in which namespaces are added and removed does not grow."""
    with Lab() as lab:
        lab.add_namespace("red")
        for round_ in range(4):
            lab.add_veth(lab["red"], lab.add_namespace("blue"), addresses=("10.0.0.1/24", "10.0.0.2/24"))
            lab["blue"].run(["true"])
            lab["blue"].call(int)
            lab.remove_namespace("blue")
            if round_ == 1:
                descriptors = len(os.listdir("/proc/self/fd"))
        assert len(os.listdir("/proc/self/fd")) <= descriptors
        assert list(lab["red"].interfaces) == ["lo"]


def test_packets_of_a_removed_namespace_are_kept(netns_lan: Lab) -> None:
    """Packets captured there stay in the capture."""
    with netns_lan.capture() as packets:
        netns_lan["red"].run(["ping", "-c1", "-W2", "blue"])
        netns_lan.remove_namespace("blue")
    assert [packet for packet in packets if packet.namespace == "blue"]


def test_what_cannot_be_removed(netns_lan: Lab) -> None:
    """The error for an unknown name lists the known ones."""
    with pytest.raises(InvalidTopologyError, match="cannot find namespace 'green' in this lab"):
        netns_lan.remove_namespace("green")


def test_an_address_where_there_is_none(netns: Lab) -> None:
    """Without an IPv4 address there is an error that says so."""
    red = netns.add_namespace("red")
    assert red.addresses == []
    with pytest.raises(
        InvalidTopologyError, match="cannot read the address of namespace 'red': it has no IPv4 address"
    ):
        red.address  # noqa: B018

"""Interfaces: their names, numbers, MAC addresses and peers are right, whoever else makes and renames some."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_netns import BridgeSpec, InvalidTopologyError, Lab, Namespace, PortSpec, Topology, VethPair


@pytest.fixture
def red(netns: Lab) -> Namespace:
    """A namespace."""
    return netns.add_namespace("red")


@pytest.fixture
def blue(netns: Lab) -> Namespace:
    """Another."""
    return netns.add_namespace("blue")


def test_numbers_that_programs_have_taken(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """Interfaces of programs may have any number: ours get others."""
    batch = "".join(f"link add a{n} type veth peer name b{n}\n" for n in range(50))
    red.run("ip -batch -", input=batch + "link add c index 150 type veth peer name d\n")
    blue.run("ip link add eth0 index 101 type veth peer name eth1")
    bridge = netns.add_bridge("br0", namespace=red)
    pairs = [netns.add_veth(red, blue, names=(f"x{n}", f"x{n}")) for n in range(60)]
    numbers = [bridge.index, *(pair.a.index for pair in pairs)]
    assert len(set(numbers)) == 61
    assert 150 not in numbers
    assert {pair.b.index for pair in pairs}.isdisjoint({101})


def test_number_of_an_interface_that_was_moved_in(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """An interface keeps its number when a program moves it: the next cable gets another."""
    hub = netns.add_namespace("hub")
    netns.add_veth(hub, blue, names=("eth0", "eth0"))
    fd = red.links.network.fd
    hub.run(["ip", "link", "set", "eth0", "netns", f"/proc/self/fd/{fd}"], pass_fds=[fd])
    a, _ = netns.add_veth(red, blue, names=("eth1", "eth1"))
    assert a.index != red.interfaces["eth0"].index
    assert blue.interfaces["eth0"].peer is red.interfaces["eth0"]


def test_default_names_are_free_again_after_a_delete(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """The default name goes to the next interface once nobody has it, whoever deleted the one before."""
    netns.add_veth(red, blue).delete()
    a, b = netns.add_veth(red, blue)
    assert (a.name, b.name) == ("veth-red", "veth-blue")
    red.run("ip link delete veth-red")
    a, b = netns.add_veth(red, blue)
    assert (a.name, b.name) == ("veth-red", "veth-blue")
    assert [each.name for each in netns.add_veth(red, blue)] == ["veth-red-2", "veth-blue-2"]


def test_default_name_that_a_program_has_taken(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """A default name makes way for an interface that a program made; a given one is refused by name."""
    red.run("ip link add veth-red type veth peer name other")
    a, _ = netns.add_veth(red, blue)
    assert a.name == "veth-red-2"
    with pytest.raises(InvalidTopologyError, match="'other' to namespace 'red': it has one of that name"):
        netns.add_veth(red, blue, names=("other", None))
    assert set(blue.interfaces) == {"lo", "veth-blue"}


def test_interfaces_made_by_many_threads(netns: Lab, red: Namespace) -> None:
    """Threads that attach at once get an interface each."""
    bridge = netns.add_bridge("br0")
    with ThreadPoolExecutor(8) as pool:
        ports = list(pool.map(lambda _: bridge.attach(red), range(40)))
    assert len({port.name for port in ports} & set(red.interfaces)) == 40


def test_renamed_interface(netns_pair: Lab) -> None:
    """An interface renamed by a program keeps its peer, and its handle knows the new name."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    before = red.interfaces["veth-red"]
    red.run("ip link set veth-red down")
    red.run("ip link set veth-red name eth9 up")
    after = red.interfaces["eth9"]
    assert after is before
    assert before.name == "eth9"
    assert after.peer is blue.interfaces["veth-blue"]
    assert blue.interfaces["veth-blue"].peer is after
    assert "eth9" in netns_pair.draw()


def test_cable_made_by_a_program(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """A veth pair is a cable, whoever made it: each end knows the other, and the drawing shows one line."""
    fd = blue.links.network.fd
    red.run(f"ip link add eth0 type veth peer name eth7 netns /proc/self/fd/{fd}", pass_fds=[fd])
    assert red.interfaces["eth0"].peer is blue.interfaces["eth7"]
    assert blue.interfaces["eth7"].peer is red.interfaces["eth0"]
    assert "eth0  down ─── [blue] eth7" in netns.draw()


def test_mac_addresses_are_the_same_in_every_lab(netns: Lab) -> None:
    """What a client remembers of one test's network holds in the next; within a lab no two are the same."""

    def build(lab: Lab) -> list[str]:
        bridge = lab.add_bridge("br0")
        names = [lab.add_namespace(name) for name in ("red", "blue", "green")]
        ports = [bridge.attach(each) for each in names]
        cable: VethPair = lab.add_veth(names[0], names[1])
        return [each.mac for each in (bridge, *ports, *cable, *(port.peer for port in ports if port.peer))]

    found = build(netns)
    assert len(set(found)) == len(found) == 9
    with Lab() as other:
        assert build(other) == found


def test_mtu_of_a_bridge_stays(netns: Lab) -> None:
    """A bridge keeps the MTU it was given, whatever that of its ports."""
    bridge = netns.add_bridge("br0", "10.0.0.254/24", mtu=1400)
    red = netns.add_namespace("red")
    assert bridge.attach(red, "10.0.0.1/24", "eth0").mtu == 1400
    bridge.attach(red, name="eth1", mtu=9000)
    assert bridge.mtu == 1400
    netns.build(Topology(bridges=[BridgeSpec("br1", mtu=1400, ports=[PortSpec("blue", mtu=9000), PortSpec("blue")])]))
    assert netns.host.interfaces["br1"].mtu == 1400


@pytest.mark.parametrize(("name", "value"), [("mut", 1400), ("name", "eth9"), ("index", 7), ("namespace", None)])
def test_attributes_of_interfaces_are_checked(netns_pair: Lab, name: str, value: object) -> None:
    """A misspelt attribute, and one that cannot be set, is an error."""
    with pytest.raises(AttributeError):
        setattr(netns_pair["red"].interfaces["veth-red"], name, value)


def test_carrier(netns_pair: Lab) -> None:
    """An interface that is switched on has no carrier while its peer is off."""
    here, there = netns_pair["red"].interfaces["veth-red"], netns_pair["blue"].interfaces["veth-blue"]
    assert here.has_carrier
    there.down()
    assert here.is_up
    assert not here.has_carrier
    there.up()
    assert here.has_carrier

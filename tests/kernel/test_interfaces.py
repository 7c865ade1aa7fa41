"""Interfaces: their names, indexes, MAC addresses and peers are right, even if programs create and rename some."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_netns import BridgeSpec, InvalidTopologyError, Lab, Namespace, PortSpec, Topology, VethPair
from tests.support.traffic import reaches


@pytest.fixture
def red(netns: Lab) -> Namespace:
    """A namespace."""
    return netns.add_namespace("red")


@pytest.fixture
def blue(netns: Lab) -> Namespace:
    """Another namespace."""
    return netns.add_namespace("blue")


def test_numbers_that_programs_have_taken(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """Interfaces of programs can have any index: ours get others."""
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
    """An interface keeps its index when a program moves it: the next veth pair gets another."""
    hub = netns.add_namespace("hub")
    netns.add_veth(hub, blue, names=("eth0", "eth0"))
    fd = red.links.network.fd
    hub.run(["ip", "link", "set", "eth0", "netns", f"/proc/self/fd/{fd}"], pass_fds=[fd])
    a, _ = netns.add_veth(red, blue, names=("eth1", "eth1"))
    assert a.index != red.interfaces["eth0"].index
    assert blue.interfaces["eth0"].peer is red.interfaces["eth0"]


def test_default_names_are_free_again_after_a_delete(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """The default name is used again once it is free, whoever deleted the previous interface."""
    netns.add_veth(red, blue).delete()
    a, b = netns.add_veth(red, blue)
    assert (a.name, b.name) == ("veth-red", "veth-blue")
    red.run("ip link delete veth-red")
    a, b = netns.add_veth(red, blue)
    assert (a.name, b.name) == ("veth-red", "veth-blue")
    assert [each.name for each in netns.add_veth(red, blue)] == ["veth-red-2", "veth-blue-2"]


def test_default_name_that_a_program_has_taken(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """A default name avoids that of an interface created by a program; a given one is refused by name."""
    red.run("ip link add veth-red type veth peer name other")
    a, _ = netns.add_veth(red, blue)
    assert a.name == "veth-red-2"
    with pytest.raises(InvalidTopologyError, match="'other' to namespace 'red': it already has one of that name"):
        netns.add_veth(red, blue, names=("other", None))
    assert set(blue.interfaces) == {"lo", "veth-blue"}


def test_interfaces_made_by_many_threads(netns: Lab, red: Namespace) -> None:
    """Threads that attach at the same time get an interface each."""
    bridge = netns.add_bridge("br0")
    with ThreadPoolExecutor(8) as pool:
        ports = list(pool.map(lambda _: bridge.attach(red), range(40)))
    assert len({port.name for port in ports} & set(red.interfaces)) == 40


def test_renamed_interface(netns_pair: Lab) -> None:
    """An interface renamed by a program keeps its peer, and its handle has the new name."""
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


def test_link_made_by_a_program(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """A veth pair of a program works too: each end knows the other, and the drawing shows one line."""
    fd = blue.links.network.fd
    red.run(f"ip link add eth0 type veth peer name eth7 netns /proc/self/fd/{fd}", pass_fds=[fd])
    assert red.interfaces["eth0"].peer is blue.interfaces["eth7"]
    assert blue.interfaces["eth7"].peer is red.interfaces["eth0"]
    assert "eth0  down ─── [blue] eth7" in netns.draw()


def test_mac_addresses_are_the_same_in_every_lab(netns: Lab) -> None:
    """MAC addresses cached in one test are valid in the next; within a lab no two are the same."""

    def build(lab: Lab) -> list[str]:
        bridge = lab.add_bridge("br0")
        names = [lab.add_namespace(name) for name in ("red", "blue", "green")]
        ports = [bridge.attach(each) for each in names]
        link: VethPair = lab.add_veth(names[0], names[1])
        return [each.mac for each in (bridge, *ports, *link, *(port.peer for port in ports if port.peer))]

    found = build(netns)
    assert len(set(found)) == len(found) == 9
    with Lab() as other:
        assert build(other) == found


def test_mtu_of_a_bridge_stays(netns: Lab) -> None:
    """A bridge keeps its given MTU, whatever that of its ports."""
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
    """An interface that is up has no carrier while its peer is down."""
    here, there = netns_pair["red"].interfaces["veth-red"], netns_pair["blue"].interfaces["veth-blue"]
    assert here.has_carrier
    there.down()
    assert here.is_up
    assert not here.has_carrier
    there.up()
    assert here.has_carrier


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "reported", "shown"),
    [
        ("172.16.0.1 peer 172.16.1.0/24", "172.16.0.1/32", "inet 172.16.0.1 peer 172.16.1.0/24 scope global eth0"),
        ("10.0.0.1 peer 10.0.0.2/32", "10.0.0.1/32", "inet 10.0.0.1 peer 10.0.0.2/32 scope global eth0"),
        (
            "2001:db8::1 peer 2001:db8::2/128",
            "2001:db8::1/128",
            "inet6 2001:db8::1 peer 2001:db8::2/128 scope global nodad",
        ),
    ],
)
def test_address_with_a_peer(
    netns: Lab, red: Namespace, blue: Namespace, given: str, reported: str, shown: str
) -> None:
    """With a peer, the address is the interface's own and the network the peer's; it can be removed, whoever added it."""
    end, _ = netns.add_veth(red, blue, names=("eth0", "eth0"))
    for add in (
        lambda: end.add_address(given),
        lambda: red.run(["ip", "address", "add", *given.split(), "dev", "eth0"]),
    ):
        add()
        assert [str(each) for each in end.addresses if not each.is_link_local] == [reported]
        lines = red.run("ip address show eth0").stdout.splitlines()
        assert shown.removesuffix(" nodad") in " ".join(line.strip() for line in lines)
        end.remove_address(given)
        assert not [each for each in end.addresses if not each.is_link_local]


def test_names_lead_to_addresses_with_peers(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """Programs resolve their own namespace and the peer by name."""
    addresses = ("2001:db8::1 peer 2001:db8::2/128", "2001:db8::2 peer 2001:db8::1/128")
    netns.add_veth(red, blue, addresses=addresses)
    red.run("ping -c1 -W2 blue")
    assert red.run("getent hosts red").stdout.split()[0] == "2001:db8::1"


@pytest.mark.parametrize("bad", ["10.0.0.1 peer 10.0.0.2", "10.0.0.1 peer fd00::1/64", "x peer 10.0.0.2/32"])
def test_wrong_addresses_of_peers(netns_pair: Lab, bad: str) -> None:
    """The peer needs a prefix length, and is of the same family."""
    with pytest.raises(InvalidTopologyError, match=r"write the peer with a prefix length, such as"):
        netns_pair["red"].interfaces["veth-red"].add_address(bad)


def test_removing_an_address_leaves_the_others(netns_pair: Lab) -> None:
    """With the first address of a network the kernel removes the others; they are restored at once."""
    eth = netns_pair["red"].interfaces["veth-red"]
    eth.add_address("192.168.15.77/24")
    eth.add_address("192.168.15.78/24")
    eth.add_address("10.9.9.9/32", scope="host")
    eth.remove_address("192.168.15.1/24")
    assert sorted(str(each) for each in eth.addresses if each.version == 4) == [
        "10.9.9.9/32",
        "192.168.15.77/24",
        "192.168.15.78/24",
    ]
    assert "inet 10.9.9.9/32 scope host veth-red" in netns_pair["red"].run("ip address").stdout
    for address in eth.addresses:
        eth.remove_address(address)
    assert not eth.addresses


def tentative(namespace: Namespace) -> list[str]:
    """The addresses that cannot be used yet (IFA_F_TENTATIVE)."""
    with namespace, open("/proc/thread-self/net/if_inet6", encoding="ascii") as table:
        return [line.split()[5] for line in table if int(line.split()[4], 16) & 0x40]


def test_link_local_addresses_work_at_once(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """A link-local address can be used as soon as its interface is created, is up again, or has another MAC address."""
    bridge = netns.add_bridge("br0")
    for number in range(20):
        a, b = netns.add_veth(red, blue)
        port = bridge.attach(red)
        assert tentative(red) == tentative(blue) == tentative(netns.host) == []
        a.down()
        a.up()
        assert tentative(red) == tentative(blue) == []
        b.mac = f"02:00:00:00:00:{number:02x}"
        assert tentative(blue) == []
        with red.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, a.index)
            sender.sendto(b"one", ("ff02::1", 9999))
        a.delete()
        port.delete()


def test_another_mac_address_renews_the_link_local_address(netns_pair: Lab) -> None:
    """The link-local address is derived from the MAC address, RFC 4291 appendix A; it answers, and the old one is gone."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    blue.interfaces["veth-blue"].mac = "02:00:00:00:00:01"
    found = [str(each) for each in blue.interfaces["veth-blue"].addresses if each.is_link_local]
    assert found == ["fe80::ff:fe00:1/64"]
    assert reaches(red, "fe80::ff:fe00:1%veth-red")


def test_without_ipv6_nothing_is_waited_for(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """If IPv6 is disabled, or the MTU is too small for it, no link-local address is waited for."""
    red.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    red.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    started = time.thread_time()
    for _ in range(5):
        netns.add_veth(red, blue)
        netns.add_veth(blue, blue, mtu=1000)
    assert time.thread_time() - started < 5  # a wait in vain takes a second of CPU time each


# -- down and up, unplugged and plugged in --------------------------------------------------------


def everything(namespace: Namespace) -> list[str]:
    """Addresses and routes of all tables, as ip(8) lists them, except link-local ones."""
    found: list[str] = []
    for words in ("address", "route show table all", "-6 route show table all"):
        found += [line.strip() for line in namespace.run(f"ip {words}").stdout.splitlines() if "fe80" not in line]
    return sorted(line for line in found if "valid_lft" not in line and "multicast" not in line)


@pytest.fixture
def router(netns: Lab) -> Namespace:
    """red, with two veth pairs, IPv4 and IPv6, and routes of all kinds."""
    red, far = netns.add_namespace("red"), netns.add_namespace("far")
    one = (("10.0.1.2/24", "fd01::2/64"), ("10.0.1.1/24", "fd01::1/64"))
    two = (("10.0.2.2/24", "fd02::2/64"), ("10.0.2.1/24", "fd02::1/64"))
    netns.add_veth(red, far, addresses=one, names=("eth0", "eth0"))
    netns.add_veth(red, far, addresses=two, names=("eth1", "eth1"))
    red.add_default_route(via="10.0.1.1")
    red.add_default_route(via="fd01::1")
    red.add_route("10.8.0.0/16", via=["10.0.1.1", "10.0.2.1"])
    red.add_route("fd08::/64", via=["fd01::1", "fd02::1"])
    red.add_route("10.9.0.0/16", via="10.0.1.1", table=101, metric=5, source="10.0.1.2")
    red.add_route("10.7.0.0/16", dev="eth0")
    return red


def test_switched_off_and_on(router: Namespace) -> None:
    """What an interface loses when it is set down is restored when it is set up."""
    eth0, before = router.interfaces["eth0"], everything(router)
    eth0.down()
    assert len(everything(router)) < len(before)
    assert not [route for route in router.routes() if route.is_default]
    eth0.up()
    assert everything(router) == before
    assert reaches(router, "fd01::1")
    eth0.down()
    router.add_default_route(via="10.0.2.1")  # routes added meanwhile stay
    eth0.up()
    assert [str(route.via) for route in router.routes() if route.is_default] == ["10.0.2.1", "fd01::1"]


@pytest.mark.parametrize("how", ["link", "namespace", "block", "heal"])
def test_unplugged_and_plugged_in(netns_nat: Lab, how: str) -> None:
    """Unplugged, neither end of a veth pair has a carrier; plugged in, everything is as before, on both sides."""
    host, outside = netns_nat.host, netns_nat["outside"]
    outside.add_route("192.168.15.0/24", via="192.168.1.2")
    host.interfaces["eth0"].add_address("fd00::1/64")
    link = VethPair(outside.interfaces["eth0"], host.interfaces["eth0"])
    before = everything(host), everything(outside)
    fault = outside.unplug() if how == "namespace" else link.unplug()
    assert (link.a.has_carrier, link.b.has_carrier) == (False, False)
    assert netns_nat.draw().count("unplugged") == 2
    assert not reaches(outside, "192.168.1.2")
    with pytest.raises(InvalidTopologyError, match=r"it is unplugged; call plug\(\)"):
        (link.b if not link.b.is_up else link.a).up()
    {"link": link.plug, "namespace": outside.plug, "heal": netns_nat.heal, "block": fault.heal}[how]()
    assert (link.a.has_carrier, link.b.has_carrier) == (True, True)
    assert (everything(host), everything(outside)) == before
    assert reaches(netns_nat["red"], "192.168.1.3")
    with link.unplug():
        assert not link.a.has_carrier
    assert link.a.has_carrier
    link.plug()  # nothing to do
    assert "unplugged" not in netns_nat.draw()


def test_unplugged_namespace_keeps_what_is_its_own(netns_lan: Lab) -> None:
    """A machine whose cable is pulled keeps its addresses and routes; only the switch port is down."""
    red = netns_lan["red"]
    before = [str(route) for route in red.routes()]
    with red.unplug():
        eth = red.interfaces["veth-red"]
        assert (eth.is_up, eth.has_carrier) == (True, False)
        assert [str(route) for route in red.routes()] == before
        assert not reaches(red, "192.168.15.2")
    netns_lan.wait_until(lambda: reaches(red, "192.168.15.2"))


def test_interface_that_is_off_stays_off(netns_pair: Lab) -> None:
    """Plugging in does not set up interfaces that were down before."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    blue.interfaces["veth-blue"].down()
    with red.unplug():
        pass
    assert not blue.interfaces["veth-blue"].is_up


def carrier_changes(namespace: Namespace) -> int:
    """How often an interface has lost or got its carrier."""
    return int(namespace.run("cat /sys/class/net/veth-red/carrier_changes").stdout)


def test_flapping_link(netns_pair: Lab) -> None:
    """The carrier is lost and regained each time; invalid numbers are refused."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    link = VethPair(red.interfaces["veth-red"], blue.interfaces["veth-blue"])
    before = carrier_changes(red)
    link.flap(3, down=0.01, up=0.01)
    assert carrier_changes(red) == before + 6
    assert link.a.has_carrier
    for wrong in ({"times": 0, "down": 1, "up": 1}, {"times": 1, "down": -1, "up": 1}):
        with pytest.raises(InvalidTopologyError, match="cannot flap a link with"):
            link.flap(**wrong)

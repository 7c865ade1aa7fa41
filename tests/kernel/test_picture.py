"""The picture of every introduction to network namespaces: each of its statements, with real packets."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from pytest_netns import CommandError, InvalidTopologyError, Lab
from pytest_netns.kernel.netlink import rtlinks
from tests.support.traffic import listen, peer_of_connection, peer_of_datagram, reaches

pytestmark = pytest.mark.kernels
RED, BLUE, HOST = "192.168.15.1", "192.168.15.2", "192.168.15.5"
OUTER, OUTSIDE = "192.168.1.2", "192.168.1.3"


def test_a_fresh_namespace_sees_only_lo_and_empty_tables(netns: Lab) -> None:
    """A new namespace has the interface lo, no routes and no neighbours, according to the kernel and to programs in it."""
    red = netns.add_namespace("red")
    assert list(red.interfaces) == ["lo"]
    assert [route for route in red.routes() if route.interface != "lo"] == []
    assert red.neighbours() == []
    listed = [line.split(": ")[1].split("@")[0] for line in red.run(["ip", "-o", "link"]).stdout.splitlines()]
    by_the_kernel = set(
        rtlinks.FALLBACK_TUNNELS.values()
    )  # with tunnels the kernel adds these, and they cannot be deleted
    assert [name for name in listed if name not in by_the_kernel] == ["lo"]
    assert red.run(["ip", "route"]).stdout == ""
    assert red.run(["ip", "neighbour"]).stdout == ""
    assert os.listdir("/sys/class/net") != []
    found = set(red.run(["ls", "/sys/class/net"]).stdout.split()) - {"bonding_masters"}  # a file of the bonding module
    assert found == set(listed)


def test_a_process_inside_sees_only_its_own_outside_sees_all_under_other_pids(netns: Lab) -> None:
    """Inside, ps shows only the namespace's processes; outside, they exist too, with other PIDs."""
    red = netns.add_namespace("red")
    sleeper = red.popen(["sleep", "600"])
    seen = [line.split(maxsplit=1) for line in red.run(["ps", "-e", "-o", "pid=,args="]).stdout.splitlines()]
    inside = {command: int(pid) for pid, command in seen}
    assert len(seen) == 3, "its init, the sleeper and ps itself"
    assert 1 in inside.values()
    numbers = next(
        line.split()[1:]
        for line in Path(f"/proc/{sleeper.pid}/status").read_text().splitlines()
        if line.startswith("NSpid:")
    )
    assert numbers[0] == str(sleeper.pid)
    assert numbers[-1] == str(inside["sleep 600"])
    assert inside["sleep 600"] != sleeper.pid
    assert f"{os.getpid()}" not in [pid for pid, _ in seen]
    blue = netns.add_namespace("blue")
    assert "sleep" not in blue.run(["ps", "-e", "-o", "args="]).stdout


def test_a_veth_pair_joins_two_namespaces(netns: Lab) -> None:
    """Two namespaces do not reach each other until a veth pair joins them."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    assert not reaches(red, BLUE)
    netns.add_veth(red, blue, addresses=(f"{RED}/24", f"{BLUE}/24"))
    assert reaches(red, BLUE)
    assert reaches(blue, RED)
    with listen(blue, 80) as server:
        assert peer_of_connection(red, BLUE, 80, server) == RED


def test_an_address_without_its_prefix_length_does_not_reach_the_peer(netns: Lab) -> None:
    """An address alone (the kernel makes it a /32) reaches no peer, so add_address refuses it; with /24 it does."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    near, far = netns.add_veth(red, blue)
    far.add_address(f"{BLUE}/24")
    with pytest.raises(InvalidTopologyError, match="'192.168.15.1'.*needs a prefix length"):  # noqa: RUF043
        near.add_address(RED)
    red.run(["ip", "address", "add", RED, "dev", near.name])
    assert [str(address) for address in near.addresses if address.version == 4] == [f"{RED}/32"]
    refused = red.run(["ping", "-c1", "-W1", BLUE], check=False)
    assert "Network is unreachable" in refused.stderr
    near.remove_address(f"{RED}/32")
    near.add_address(f"{RED}/24")
    assert reaches(red, BLUE)


def test_each_side_learns_the_others_mac_and_the_host_nothing(netns: Lab) -> None:
    """After a ping, red and blue have each other in their neighbour tables; a host that was not involved has no entry."""
    red, blue, host = netns.add_namespace("red"), netns.add_namespace("blue"), netns.host
    near, far = netns.add_veth(red, blue, addresses=(f"{RED}/24", f"{BLUE}/24"))
    assert red.neighbours() == blue.neighbours() == []
    assert reaches(red, BLUE)
    learned = {str(entry.address): entry.mac for entry in red.neighbours() if entry.address.version == 4}
    assert learned == {BLUE: far.mac}
    learned = {str(entry.address): entry.mac for entry in blue.neighbours() if entry.address.version == 4}
    assert learned == {RED: near.mac}
    assert host.neighbours() == []


@pytest.mark.parametrize("end", [0, 1])
def test_deleting_one_end_deletes_both(netns: Lab, end: int) -> None:
    """A veth pair with one end does not exist: whichever end is deleted, the other is gone."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    pair = netns.add_veth(red, blue, addresses=(f"{RED}/24", f"{BLUE}/24"))
    pair[end].delete()
    assert list(red.interfaces) == list(blue.interfaces) == ["lo"]
    assert not reaches(red, BLUE)


def test_a_bridge_joins_many(netns: Lab) -> None:
    """Every namespace on a bridge reaches every other."""
    bridge = netns.add_bridge("v-net-0")
    addresses = {f"ns{number}": f"192.168.15.{number}" for number in range(1, 5)}
    for name, address in addresses.items():
        bridge.attach(netns.add_namespace(name), f"{address}/24")
    for name in addresses:
        for address in addresses.values():
            assert reaches(netns[name], address), (name, address)


def test_the_host_reaches_them_once_it_has_an_address_on_the_bridge(netns: Lab) -> None:
    """A bridge without address only connects others; with one, its host takes part."""
    bridge = netns.add_bridge("v-net-0")
    bridge.attach(netns.add_namespace("red"), f"{RED}/24")
    refused = netns.host.run(["ping", "-c1", "-W1", RED], check=False)
    assert "Network is unreachable" in refused.stderr
    bridge.add_address(f"{HOST}/24")
    assert reaches(netns.host, RED)
    assert reaches(netns["red"], HOST)


def _picture_without_routes(lab: Lab) -> None:
    """Red on the bridge and outside on the other side of host; neither has a route to the other, and there is no NAT."""
    red, outside, host = lab.add_namespace("red"), lab.add_namespace("outside"), lab.host
    lab.add_bridge("v-net-0", f"{HOST}/24").attach(red, f"{RED}/24")
    lab.add_veth(host, outside, addresses=(f"{OUTER}/24", f"{OUTSIDE}/24"), names=("eth0", "eth0"))
    host.enable_forwarding()


def test_outside_is_unreachable_until_there_is_a_route_via_the_gateway(netns: Lab) -> None:
    """Without a route red's packets do not even leave it; with one, they arrive outside."""
    _picture_without_routes(netns)
    red, outside = netns["red"], netns["outside"]
    with pytest.raises(CommandError, match="Network is unreachable"):
        red.run(["ping", "-c1", "-W1", OUTSIDE])
    red.add_route("192.168.1.0/24", via=HOST)
    with listen(outside, 9, socket.SOCK_DGRAM) as server, red.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", (OUTSIDE, 9))
        assert server.recvfrom(9)[0] == b"hello"


def test_replies_come_back_only_with_masquerade(netns: Lab) -> None:
    """Outside gets red's packets but has no route back to 192.168.15.1; with masquerade it answers 192.168.1.2."""
    _picture_without_routes(netns)
    red, outside, host = netns["red"], netns["outside"], netns.host
    red.add_default_route(via=HOST)
    with listen(outside, 9, socket.SOCK_DGRAM) as server:
        with red.socket(type=socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", (OUTSIDE, 9))
            _, peer = server.recvfrom(9)
            assert peer[0] == f"::ffff:{RED}"
            with pytest.raises(OSError) as caught:
                server.sendto(b"back", peer)
            assert caught.value.errno == errno.ENETUNREACH
        assert not reaches(red, OUTSIDE)
        host.masquerade("192.168.15.0/24", out="eth0")
        assert peer_of_datagram(red, OUTSIDE, 9, server) == OUTER
    assert reaches(red, OUTSIDE)


@pytest.mark.parametrize("way", ["port forward", "route"])
def test_outside_reaches_inside_only_by_port_forward_or_a_route(netns_nat: Lab, way: str) -> None:
    """Outside cannot reach blue, until host forwards a port to it, or outside gets a route through host."""
    outside, blue, host = netns_nat["outside"], netns_nat["blue"], netns_nat.host
    assert "Network is unreachable" in outside.run(["ping", "-c1", "-W1", BLUE], check=False).stderr
    with outside.socket() as refused, pytest.raises(ConnectionRefusedError):
        refused.connect((OUTER, 8080))
    with listen(blue, 80) as server:
        if way == "route":
            outside.add_route("192.168.15.0/24", via=OUTER)
            assert peer_of_connection(outside, BLUE, 80, server) == OUTSIDE
        else:
            host.forward_port(8080, to=f"{BLUE}:80")
            assert peer_of_connection(outside, OUTER, 8080, server) == OUTSIDE


def test_the_ready_made_pictures_are_the_picture(netns_nat: Lab) -> None:
    """Names, addresses and ports of netns_nat are those of the drawing."""
    host = netns_nat.host
    assert {namespace.name for namespace in netns_nat} == {"red", "blue", "host", "outside"}
    assert {"v-net-0", "veth-red-br", "veth-blue-br", "eth0"} <= set(host.interfaces)
    shown = {
        (namespace.name, interface.name, str(address))
        for namespace in netns_nat
        for interface in namespace.interfaces.values()
        for address in interface.addresses
        if interface.name != "lo" and address.version == 4
    }
    assert shown == {
        ("red", "veth-red", f"{RED}/24"),
        ("blue", "veth-blue", f"{BLUE}/24"),
        ("host", "v-net-0", f"{HOST}/24"),
        ("host", "eth0", f"{OUTER}/24"),
        ("outside", "eth0", f"{OUTSIDE}/24"),
    }

"""Interfaces of every kind: created as requested, or refused with the valid values; missing kinds are reported."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_netns import (
    Bridge,
    Interface,
    InvalidTopologyError,
    KernelError,
    Lab,
    LinkSpec,
    Namespace,
    RouteSpec,
    Topology,
    UnavailableError,
    VethEnd,
    VethSpec,
)
from pytest_netns.parts.links.kinds import NAMES, kind_named
from tests.support.traffic import reaches

pytestmark = pytest.mark.kernels  # the second kernel has kinds that the machine's own lacks


@contextlib.contextmanager
def where_there_is(*kinds: str) -> Iterator[None]:
    """Skip the rest of a test if this kernel lacks a kind; the error must then name the remedy."""
    missing: list[UnavailableError] = []

    def keep(_kind: object, error: BaseException | None, _traceback: object) -> bool:
        if isinstance(error, UnavailableError):
            missing.append(error)
        return bool(missing)

    with contextlib.ExitStack() as stack:
        stack.push(keep)
        yield
    for error in missing:
        assert error.remedy
        assert error.feature in {*(f"interfaces of kind {kind}" for kind in kinds), *kinds}
        pytest.skip(str(error).replace("\n", " "))


def shown_by_ip(interface: Interface) -> dict[str, Any]:
    """ip(8)'s output for an interface, inside."""
    shown = interface.namespace.run(["ip", "-d", "-j", "link", "show", "dev", interface.name]).stdout
    (found,) = json.loads(shown)
    return dict(found)


# Interfaces that loading a module adds to the machine's own network: fallback tunnels, or a first one of the kind.
MODULES = {
    "bond": "bonding", "dummy": "dummy", "gre": "ip_gre", "gretap": "ip_gre", "ifb": "ifb", "ip6gre": "ip6_gre",
    "ip6gretap": "ip6_gre", "ip6tnl": "ip6_tunnel", "ipip": "ipip", "sit": "sit", "vti": "ip_vti", "vti6": "ip6_vti",
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_loaded(request: pytest.FixtureRequest) -> None:
    """Skip a test of a kind whose module would change the machine, until the module is loaded."""
    callspec = getattr(request.node, "callspec", None)
    module = MODULES.get(callspec.params.get("kind"), "") if callspec else ""
    dependencies = pathlib.Path(f"/lib/modules/{os.uname().release}/modules.dep")
    loadable = dependencies.exists() and f"/{module}.ko" in dependencies.read_text()
    if module and loadable and not os.path.exists(f"/sys/module/{module}"):
        pytest.skip(f"the module {module} is not loaded, and loading it adds interfaces to this machine")


@pytest.mark.parametrize("kind", NAMES)
def test_every_kind(netns_pair: Lab, kind: str) -> None:
    """An interface with the kind's own example exists, is of that kind and up; its description is in the drawing."""
    red = netns_pair["red"]
    known = kind_named(kind)
    on = "veth-red" if "link" in known.needs else None
    with where_there_is(kind):
        made = red.add_interface("new0", kind=kind, link=on, **known.example)
    assert red.interfaces["new0"] is made
    assert shown_by_ip(made)["linkinfo"]["info_kind"] == ("tun" if kind in ("tun", "tap") else kind)
    assert made.is_up
    assert f"new0  {made.kind}" in netns_pair.draw()
    made.delete()
    assert "new0" not in red.interfaces


@pytest.mark.parametrize("kind", [name for name in NAMES if kind_named(name).maker == "netlink"])
def test_options_that_are_checked_are_the_kernels(kind: str) -> None:
    """Each option that a kind checks is a kernel attribute in pyroute2."""
    from pytest_netns.kernel.netlink import messages

    known = kind_named(kind)
    attributes = {each.attribute for each in known.options.values()} | {
        each.for_ipv6 for each in known.options.values() if each.for_ipv6
    }
    assert attributes <= set(messages.link_options(kind))


@pytest.mark.parametrize(
    ("kind", "options", "mistake"),
    [
        ("vlann", {}, r"cannot use 'vlann' as kind of interface: valid are .*did you mean 'vlan'\?"),
        ("vlan", {"link": "veth-red"}, "it needs vlan_id, such as vlan_id=10"),
        ("vlan", {"vlan_id": 10}, "cannot add vlan interface 'new0': it needs link, its lower interface"),
        (
            "vlan",
            {"link": "veth-red", "vlan_idd": 1, "id": 1},
            r"'vlan_idd' of a vlan interface: .*did you mean 'vlan_id'\?",
        ),
        (
            "vlan",
            {"link": "veth-red", "id": 5000},
            r"cannot use 5000: use a whole number from 0 to 4094 \(option 'id'",
        ),
        (
            "vlan",
            {"link": "veth-rad", "id": 5},
            r"cannot use 'veth-rad' as interface of namespace 'red': .*did you mean",
        ),
        (
            "vxlan",
            {"id": 1, "remote": "blue"},
            r"cannot use 'blue' as address.* \(option 'remote' of a vxlan interface\)",
        ),
        ("vxlan", {"id": 1, "ageing": "long"}, "an option has an invalid value: .*'long'"),
        ("bond", {"mode": "active"}, r"cannot use 'active' as value: valid are .*did you mean 'active-backup'\?"),
        ("macvlan", {"link": "veth-red", "mode": "brigde"}, r"did you mean 'bridge'\?"),
        (
            "gre",
            {"local": "fd00::1"},
            r"cannot use 'fd00::1': use an IPv4 address \(option 'local' of a gre interface",
        ),
        ("dummy", {"id": 1}, "cannot use option 'id' of a dummy interface: valid are none"),
        ("veth", {}, r"a veth pair has two ends; use lab.add_veth or bridge.attach"),
        ("wireguard", {"private_key": "x"}, "it is 32 bytes in base64, as 'wg genkey' writes it"),
        (
            "wireguard",
            {"peers": [{"public_key": base64.b64encode(bytes(32)).decode(), "allowed": 1}]},
            "did you mean 'allowed_ips'",
        ),
        ("tun", {"user": "root"}, "cannot use 'root': use a whole number"),
        ("dummy", {"addresses": "10.0.0.1"}, "it needs a prefix length"),
        ("dummy", {"mac": "x"}, "cannot use 'x' as MAC address"),
    ],
)
def test_wrong_options(netns_pair: Lab, kind: str, options: dict[str, Any], mistake: str) -> None:
    """An invalid kind, option or value is refused with the valid ones, and nothing is left behind."""
    before = list(netns_pair["red"].interfaces)
    with pytest.raises(InvalidTopologyError, match=mistake):
        netns_pair["red"].add_interface("new0", kind=kind, **options)
    assert list(netns_pair["red"].interfaces) == before


def test_what_the_kernel_refuses_leaves_nothing(netns_pair: Lab) -> None:
    """An interface that cannot be configured after its creation is deleted, and the error names the request."""
    red = netns_pair["red"]
    with pytest.raises(KernelError, match="cannot add vxlan interface v0 in namespace 'red'"):
        red.add_interface("v0", kind="vxlan", id=1, local="192.0.2.1", remote="fd00::2")
    with pytest.raises(KernelError, match="cannot set master of v0"):
        red.add_interface("v0", kind="vxlan", id=1, master="veth-red")
    assert list(red.interfaces) == ["lo", "veth-red"]


def test_tunnel_between_namespaces(netns_pair: Lab) -> None:
    """Packets pass through a VXLAN; the drawing shows its VNI."""
    for name, own, far, address in (("red", 1, 2, "10.7.0.1/24"), ("blue", 2, 1, "10.7.0.2/24")):
        local, remote = f"192.168.15.{own}", f"192.168.15.{far}"
        with where_there_is("vxlan"):
            netns_pair[name].add_interface(
                "vx7", kind="vxlan", id=7, dstport=4789, addresses=address, local=local, remote=remote
            )
    assert reaches(netns_pair["red"], "10.7.0.2")
    assert netns_pair.draw().count("VNI 7") == 2
    details = shown_by_ip(netns_pair["red"].interfaces["vx7"])["linkinfo"]["info_data"]
    assert (details["id"], details["remote"], details["port"]) == (7, "192.168.15.2", 4789)


def test_vlan_between_namespaces(netns_pair: Lab) -> None:
    """Frames of a VLAN have its tag; the drawing shows its number."""
    with where_there_is("vlan"):
        for name, address in (("red", "10.0.10.1/24"), ("blue", "10.0.10.2/24")):
            netns_pair[name].add_interface("eth0.10", kind="vlan", link=f"veth-{name}", vlan_id=10, addresses=address)
    assert reaches(netns_pair["red"], "10.0.10.2")
    assert netns_pair.draw().count("VLAN 10") == 2


def test_interface_on_one_of_another_namespace(netns_lan: Lab) -> None:
    """The lower interface of a macvlan can be in another namespace: both are on its network."""
    outside = netns_lan.add_namespace("outside")
    netns_lan.add_veth(netns_lan.host, outside, names=("eth0", "eth0"), addresses=(None, "192.168.1.3/24"))
    below = netns_lan.host.interfaces["eth0"]
    red = netns_lan["red"]
    with where_there_is("macvlan"):
        made = red.add_interface("mac0", kind="macvlan", link=below, mode="bridge", addresses="192.168.1.9/24")
    assert reaches(red, "192.168.1.3")
    assert shown_by_ip(made)["linkinfo"]["info_data"]["mode"] == "bridge"


def test_members_of_a_bond(netns: Lab) -> None:
    """A bond of two links; when one is unplugged the other is used. The drawing shows the members below the bond."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    links = [netns.add_veth(red, blue, names=(f"eth{n}", f"eth{n}"), up=False) for n in range(2)]
    with where_there_is("bond"):
        for namespace, address in ((red, "10.0.0.1/24"), (blue, "10.0.0.2/24")):
            bond = namespace.add_interface("bond0", kind="bond", mode="active-backup", miimon=10)
            for number in range(2):
                namespace.interfaces[f"eth{number}"].set_master(bond)
            bond.add_address(address)
    netns.wait_until(lambda: reaches(red, "10.0.0.2"))
    with links[0].unplug():
        netns.wait_until(lambda: reaches(red, "10.0.0.2"))
    assert "bond0  10.0.0.1/24  bond  active-backup" in netns.draw()


def test_members_of_a_vrf(netns: Lab) -> None:
    """A VRF's members use its table: the same network twice, separately."""
    red, blue, green = (netns.add_namespace(name) for name in ("red", "blue", "green"))
    netns.add_veth(red, blue, names=("to-blue", "eth0"), addresses=("10.0.0.1/24", "10.0.0.2/24"))
    netns.add_veth(red, green, names=("to-green", "eth0"), addresses=(None, "10.0.0.2/24"))
    with where_there_is("vrf"):
        vrf = red.add_interface("vrf0", kind="vrf", table=101)
    red.interfaces["to-green"].set_master(vrf)
    red.interfaces["to-green"].add_address("10.0.0.1/24")
    assert "10.0.0.0/24 dev to-green table 101" in map(str, red.routes(table=101))
    assert {route.interface for route in red.routes(table=101)} == {"to-green"}
    assert red.run("ping -c1 -W1 -I vrf0 10.0.0.2").returncode == 0
    assert green.neighbours()[0].mac == red.interfaces["to-green"].mac


def test_port_of_a_bridge(netns: Lab) -> None:
    """Any interface can become a port and stop being one; `interfaces` returns a Bridge for a bridge."""
    red, blue, host = netns.add_namespace("red"), netns.add_namespace("blue"), netns.host
    netns.add_bridge("br0")
    netns.add_veth(host, red, names=("p1", "eth0"), addresses=(None, "10.0.0.1/24"))
    bridge = host.interfaces["br0"]
    assert isinstance(bridge, Bridge)
    bridge.add_port("p1")
    bridge.attach(blue, "10.0.0.2/24")
    assert reaches(red, "10.0.0.2")
    host.interfaces["p1"].set_master(None)
    assert not reaches(red, "10.0.0.2")
    with pytest.raises(InvalidTopologyError, match="in another one"):
        bridge.add_port(red.interfaces["eth0"])


def test_isolated_ports(netns: Lab) -> None:
    """Isolated ports do not reach each other; other ports reach both."""
    bridge = netns.add_bridge("br0", "10.0.0.254/24")
    red, blue, green = (netns.add_namespace(name) for name in ("red", "blue", "green"))
    bridge.attach(red, "10.0.0.1/24", isolated=True)
    bridge.attach(blue, "10.0.0.2/24", isolated=True)
    bridge.attach(green, "10.0.0.3/24")
    assert not reaches(red, "10.0.0.2")
    assert reaches(red, "10.0.0.3")
    assert reaches(red, "10.0.0.254")


def test_vlans_of_a_bridge(netns: Lab) -> None:
    """Ports of a VLAN reach each other and no others; a trunk passes tagged frames."""
    ports = {name: netns.add_namespace(name) for name in ("red", "blue", "green")}
    with where_there_is("br_vlan_filtering of bridge interfaces"):
        bridge = netns.add_bridge("br0", vlan_filtering=True)
    bridge.attach(ports["red"], "10.0.0.1/24", tag=10)
    bridge.attach(ports["blue"], "10.0.0.2/24", tag=10)
    bridge.attach(ports["green"], "10.0.0.3/24", tag=20)
    assert reaches(ports["red"], "10.0.0.2")
    assert not reaches(ports["red"], "10.0.0.3")
    trunk = netns.add_namespace("trunk")
    bridge.attach(trunk, name="eth0", trunks=[10, 20])
    shown = json.loads(netns.host.run("bridge -j vlan show dev veth-trunk-br").stdout)
    assert [each["vlan"] for each in shown[0]["vlans"]] == [10, 20]
    with where_there_is("vlan"):
        trunk.add_interface("eth0.20", kind="vlan", link="eth0", vlan_id=20, addresses="10.0.0.9/24")
    assert reaches(ports["green"], "10.0.0.9")
    assert not reaches(ports["red"], "10.0.0.9")


@pytest.mark.parametrize(("tag", "trunks"), [(0, ()), (4095, ()), ("10", ()), (None, [10, 5000]), (None, 7.5)])
def test_wrong_vlans(netns: Lab, tag: Any, trunks: Any) -> None:
    """A VLAN is a number from 1 to 4094; a bridge without VLAN filtering is refused with the remedy."""
    red = netns.add_namespace("red")
    bridge = netns.add_bridge("br0")
    with pytest.raises(InvalidTopologyError, match="as VLAN: use a number from 1 to 4094"):
        bridge.attach(red, tag=tag, trunks=trunks)
    with pytest.raises(InvalidTopologyError, match="add it with vlan_filtering=True"):
        bridge.attach(red, tag=10)
    assert list(red.interfaces) == ["lo"]


def test_options_of_a_bridge(netns: Lab) -> None:
    """A bridge has spanning tree if requested, and other options by their names; invalid ones are refused."""
    bridge = netns.add_bridge("br0", "10.0.0.254/24", stp=True, forward_delay=200, mtu=1400)
    details = shown_by_ip(bridge)["linkinfo"]["info_data"]
    assert (details["stp_state"], details["forward_delay"]) == (1, 200)
    assert (bridge.mtu, [str(each) for each in bridge.addresses if each.version == 4]) == (1400, ["10.0.0.254/24"])
    assert "br0  10.0.0.254/24  bridge  MTU 1400  STP" in netns.draw()
    with pytest.raises(
        InvalidTopologyError, match=r"'vlan_filter' of a bridge interface: .*did you mean 'vlan_filtering'"
    ):
        netns.add_bridge("br1", vlan_filter=True)


def test_interface_moved_to_another_namespace(netns_pair: Lab) -> None:
    """It has the same name, MAC address and peer there; its handle knows its new namespace."""
    red, green = netns_pair["red"], netns_pair.add_namespace("green")
    moved, peer = red.interfaces["veth-red"], netns_pair["blue"].interfaces["veth-blue"]
    mac = moved.mac
    moved.move_to(green)
    assert (moved.namespace, moved.mac, moved.peer) == (green, mac, peer)
    assert green.interfaces["veth-red"] is moved
    assert "veth-red" not in red.interfaces
    moved.up()
    moved.add_address("192.168.15.1/24")
    assert reaches(netns_pair["blue"], "192.168.15.1")
    netns_pair.add_veth(red, green, names=("veth-red", "other"))
    with pytest.raises(
        InvalidTopologyError, match="cannot move interface 'veth-red' to namespace 'green': it already has one"
    ):
        red.interfaces["veth-red"].move_to(green)


def test_options_of_a_link(netns: Lab) -> None:
    """MAC addresses, indexes, queues, offload, and whether it is up."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    macs = ("02:00:00:00:00:01", "02:00:00:00:00:02")
    a, b = netns.add_veth(red, blue, macs=macs, indexes=(33, 33), up=False, queues=2, offload=False)
    assert (a.mac, b.mac) == macs
    assert (a.index, b.index) == (33, 33)
    assert not a.is_up
    assert not b.is_up
    assert (shown_by_ip(a)["num_tx_queues"], shown_by_ip(b)["num_tx_queues"]) == (2, 2)
    a.up()
    b.up()
    a.add_address("10.0.0.1/24")
    b.add_address("10.0.0.2/24")
    assert reaches(red, "10.0.0.2")
    for wrong, mistake in (
        ({"indexes": (33, None)}, "cannot use 33 as interface index in namespace 'red': 'veth-red' has it"),
        ({"indexes": (1, None)}, "cannot use 1 as interface index: use a number from 2"),
        ({"queues": 0}, "cannot use 0 as queues: use a number from 1"),
        ({"macs": ("x", None)}, "cannot use 'x' as MAC address"),
        ({"macs": (None,)}, "take two items, one for each end"),
    ):
        with pytest.raises(InvalidTopologyError, match=mistake):
            netns.add_veth(red, blue, **wrong)
    assert len(red.interfaces) == 2


def test_packets_without_offload(netns: Lab) -> None:
    """Without offload packets are as on a physical wire: no captured frame is larger than the MTU."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    netns.add_veth(red, blue, addresses=("10.0.0.1/24", "10.0.0.2/24"), offload=False)
    with netns.capture() as packets, blue.create_server(("10.0.0.2", 80)) as server:
        with red.create_connection(("10.0.0.2", 80)) as client:
            connection, _ = server.accept()
            with connection:
                client.sendall(bytes(30_000))
                received = 0
                while received < 30_000:
                    received += len(connection.recv(65536))
    assert max(len(packet.data) for packet in packets) <= 1514


def test_wireguard_between_namespaces(netns_pair: Lab) -> None:
    """Two WireGuard interfaces with each other's keys pass packets."""
    private = [base64.b64encode(bytes([each]) * 31 + b"\x40").decode() for each in (8, 16)]
    public = [netns_pair["red"].run("wg pubkey", input=each).stdout.strip() for each in private]
    for number, name in enumerate(("red", "blue")):
        far = 1 - number
        peer = {"public_key": public[far], "allowed_ips": ["10.8.0.0/24"], "endpoint": f"192.168.15.{far + 1}:51820"}
        with where_there_is("wireguard"):
            netns_pair[name].add_interface(
                "wg0", kind="wireguard", private_key=private[number], listen_port=51820, peers=[peer],
                addresses=f"10.8.0.{number + 1}/24",
            )  # fmt: skip
    assert reaches(netns_pair["red"], "10.8.0.2")


def test_tun_device_of_a_program(netns: Lab) -> None:
    """A tun interface stays while no program has it open, and can have addresses before."""
    if os.path.exists("/dev/net/tun") and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("needs root: /dev/net/tun may not be opened by this user")
    red = netns.add_namespace("red")
    with where_there_is("tun", "tap"):
        tun = red.add_interface("tun0", kind="tun", addresses="10.0.0.1/24")
        tap = red.add_interface("tap0", kind="tap", mac="02:00:00:00:00:09")
    assert shown_by_ip(tun)["linkinfo"]["info_data"]["type"] == "tun"
    assert (tap.mac, [str(each) for each in tun.addresses if each.version == 4]) == (
        "02:00:00:00:00:09",
        ["10.0.0.1/24"],
    )


def test_namespace_named_red_has_only_what_was_made(netns: Lab) -> None:
    """Options that are not given are not set."""
    red: Namespace = netns.add_namespace("red")
    assert list(red.interfaces) == ["lo"]


def test_interfaces_of_a_topology(netns: Lab) -> None:
    """A topology's interfaces are created after its veth pairs, with options, addresses and routes."""
    ends = [VethEnd(name, name="eth0", address=f"192.168.15.{n}/24") for n, name in enumerate(("red", "blue"), 1)]
    links = [
        LinkSpec(name, "vx7", kind="vxlan", id=7, dstport=4789, local=f"192.168.15.{n}", remote=f"192.168.15.{3 - n}",
                 address=f"10.7.0.{n}/24", mac=f"02:00:00:00:00:0{n}")
        for n, name in enumerate(("red", "blue"), 1)
    ]  # fmt: skip
    routes = [RouteSpec("red", "10.8.0.0/16", via="blue", dev="vx7")]
    with where_there_is("vxlan"):
        netns.build(Topology(veths=[VethSpec(ends)], links=links, routes=routes))
    assert reaches(netns["red"], "10.7.0.2")
    assert netns["red"].interfaces["vx7"].mac == "02:00:00:00:00:01"
    assert "10.8.0.0/16 via 10.7.0.2 dev vx7" in map(str, netns["red"].routes())


def test_wrong_option_in_a_topology_leaves_nothing(netns: Lab) -> None:
    """Options that only the kernel's table has are checked before anything is created."""
    link = LinkSpec("red", "vx7", kind="vxlan", id=7, vxlan_agein=5)
    with pytest.raises(
        InvalidTopologyError, match=r"'vxlan_agein' of a vxlan interface: .*did you mean 'vxlan_ageing'"
    ):
        netns.build(Topology(links=[link]))
    assert len(netns) == 0

"""Interfaces, addresses, routes, neighbours and settings: the kernel has what is requested, at once."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from typing import Any

import pytest

from pytest_netns import (
    Bridge,
    BridgeSpec,
    Interface,
    InvalidTopologyError,
    KernelError,
    Lab,
    Namespace,
    PortSpec,
    RouteSpec,
    Topology,
    VethEnd,
    VethSpec,
)
from pytest_netns.kernel.netlink import rtlinks
from pytest_netns.kernel.spaces import interface_settings, sysctls
from pytest_netns.kernel.spaces.netns import LOOPBACK_INDEX
from tests.support.traffic import listen, peer_of_connection, peer_of_datagram, reaches

pytestmark = pytest.mark.kernels

FOUR = ("192.168.15.1/24", "192.168.15.2/24")
SIX = ("fd00:15::1/64", "fd00:15::2/64")


@pytest.fixture
def red(netns: Lab) -> Namespace:
    """A namespace."""
    return netns.add_namespace("red")


@pytest.fixture
def blue(netns: Lab) -> Namespace:
    """Another namespace."""
    return netns.add_namespace("blue")


def shown_by_ip(interface: Interface) -> str:
    """ip(8)'s output for an interface, inside."""
    return interface.namespace.run(["ip", "address", "show", "dev", interface.name]).stdout


@pytest.mark.parametrize(("first", "second"), [FOUR, SIX], ids=["IPv4", "IPv6"])
def test_addresses_are_usable_at_once(netns: Lab, red: Namespace, blue: Namespace, first: str, second: str) -> None:
    """The next call after add_veth can bind and connect; no duplicate address detection is waited for."""
    netns.add_veth(red, blue, addresses=(first, second))
    target = second.split("/")[0]
    with blue.socket(socket.AF_INET6 if ":" in target else socket.AF_INET) as server:
        server.bind((target, 80))
        server.listen()
        server.settimeout(5)
        assert peer_of_connection(red, target, 80, server) == first.split("/")[0]
    assert "tentative" not in blue.run(["ip", "address"]).stdout


@pytest.mark.parametrize(("address", "target"), [(FOUR[1], "192.168.15.2"), (SIX[1], "fd00:15::2")])
def test_an_address_added_later_is_usable_at_once(
    netns: Lab, red: Namespace, blue: Namespace, address: str, target: str
) -> None:
    """An address can be bound as soon as add_address returns; remove_address removes it."""
    _near, far = netns.add_veth(red, blue, addresses=((FOUR[0], SIX[0]), None))
    far.add_address(address)
    assert ipaddress.ip_interface(address) in far.addresses
    with listen(blue, 9, socket.SOCK_DGRAM) as server:
        peer_of_datagram(red, target, 9, server)
    far.remove_address(address)
    assert ipaddress.ip_interface(address) not in far.addresses
    with blue.socket(socket.AF_INET6 if ":" in target else socket.AF_INET) as gone, pytest.raises(OSError) as caught:
        gone.bind((target, 80))
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_interfaces_have_their_final_names_at_once(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """Both ends are in their namespaces, with the given names or default ones, and up."""
    pair = netns.add_veth(red, blue, names=("eth0", None))
    a, b = pair
    assert (a, b) == (pair.a, pair.b) == (pair[0], pair[1])
    assert (a.name, b.name) == ("eth0", "veth-blue")
    assert set(red.interfaces) == {"lo", "eth0"}
    assert a.peer is b
    assert b.peer is a
    assert a.namespace is red
    assert b.namespace is blue
    assert a.is_up
    assert b.is_up
    assert red.run(["cat", "/sys/class/net/eth0/ifindex"]).stdout.strip() == str(a.index)


def test_the_real_host_never_sees_them(netns_nat: Lab) -> None:
    """No interface of a lab appears in pytest's own namespace."""
    ours = {name for namespace in netns_nat for name in namespace.interfaces} - {"lo"}
    assert ours.isdisjoint(set(os.listdir("/proc/sys/net/ipv4/conf")) - {"eth0"})


def test_mtu(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """A given MTU is the kernel's, and larger packets do not fit."""
    near, far = netns.add_veth(red, blue, addresses=FOUR, mtu=1400)
    assert near.mtu == far.mtu == 1400
    assert "mtu 1400" in shown_by_ip(near)
    ping = ["ping", "-c1", "-W1", "-M", "do", "192.168.15.2"]
    assert red.run([*ping, "-s", "1372"]).returncode == 0
    assert red.run([*ping, "-s", "1373"], check=False).returncode != 0
    near.mtu = far.mtu = 1500
    assert near.mtu == 1500
    assert red.run([*ping, "-s", "1373"]).returncode == 0


def test_mac(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """A MAC address that is set is the kernel's, and the neighbour learns it."""
    near, _far = netns.add_veth(red, blue, addresses=FOUR)
    near.mac = "02:00:00:00:00:2A"
    assert near.mac == "02:00:00:00:00:2a"
    assert "02:00:00:00:00:2a" in shown_by_ip(near)
    assert reaches(red, "192.168.15.2")
    assert [entry.mac for entry in blue.neighbours() if entry.address.version == 4] == [near.mac]


def test_up_and_down(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """An interface that is down carries nothing; up again, it does."""
    near, _ = netns.add_veth(red, blue, addresses=FOUR)
    near.down()
    assert not near.is_up
    assert not reaches(red, "192.168.15.2")
    near.up()
    assert near.is_up
    assert reaches(red, "192.168.15.2")


def test_what_others_change_is_read_back(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """Handles keep no copies: changes by a program inside are visible."""
    near, _ = netns.add_veth(red, blue, addresses=FOUR, names=("eth0", "eth0"))
    red.run("ip link set eth0 mtu 1300 address 02:00:00:00:00:07")
    red.run("ip address add 10.1.1.1/16 dev eth0")
    red.run("ip link add dev extra type veth")
    assert (near.mtu, near.mac) == (1300, "02:00:00:00:00:07")
    assert ipaddress.ip_interface("10.1.1.1/16") in near.addresses
    assert {"extra", "veth0"} <= set(red.interfaces)
    assert red.interfaces["extra"].kind == "veth"
    red.interfaces["extra"].delete()
    assert set(red.interfaces) == {"lo", "eth0"}


def test_bridge_and_ports(netns: Lab, red: Namespace) -> None:
    """A bridge forwards at once; attach creates the port and returns the end inside; deleting it keeps the others."""
    bridge = netns.add_bridge("v-net-0", ("192.168.15.5/24", "fd00:15::5/64"))
    assert isinstance(bridge, Bridge)
    assert bridge.kind == "bridge"
    assert bridge.is_up
    assert bridge.namespace is netns.host
    inside = bridge.attach(red, FOUR[0], "eth7", mtu=1400, mac="02:00:00:00:00:01")
    assert (inside.name, inside.namespace, inside.mtu, inside.mac) == ("eth7", red, 1400, "02:00:00:00:00:01")
    assert "veth-red-br" in netns.host.interfaces
    assert reaches(red, "192.168.15.5")
    inside.add_address("fd00:15::1/64")
    assert reaches(red, "fd00:15::5")
    inside.delete()
    assert set(netns.host.interfaces) == {"lo", "v-net-0"}
    bridge.attach(red, FOUR[0])
    assert reaches(red, "192.168.15.5")


def test_a_bridge_in_another_namespace(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """A bridge can be in any namespace; a namespace can be on it twice."""
    bridge = netns.add_bridge("br0", "10.0.0.1/24", namespace=blue)
    first, second = bridge.attach(red, "10.0.0.2/24"), bridge.attach(red)
    assert first.name != second.name
    assert reaches(blue, "10.0.0.2")
    assert "host" not in netns


def test_both_ends_in_one_namespace(netns: Lab, red: Namespace) -> None:
    """A veth pair can have both ends in one namespace, with different names."""
    a, b = netns.add_veth(red, red)
    assert a.name != b.name
    assert {a.name, b.name} < set(red.interfaces)
    with pytest.raises(InvalidTopologyError, match="both ends 'x'"):
        netns.add_veth(red, red, names=("x", "x"))


@pytest.mark.parametrize("name", [[], 5, "", "a/b"], ids=repr)
def test_names_of_interfaces_that_are_none(netns: Lab, red: Namespace, blue: Namespace, name: Any) -> None:
    """Whatever is given as a name, the error names it, and nothing is left behind."""
    for names in ((name, None), (None, name)):
        with pytest.raises(InvalidTopologyError, match=re.escape(f"cannot use {name!r} as interface name")):
            netns.add_veth(red, blue, names=names)
    assert list(red.interfaces) == list(blue.interfaces) == ["lo"]


@pytest.mark.parametrize(
    ("near", "gateway", "far", "target"),
    [
        ("192.168.15.1/24", "192.168.15.5/24", "192.168.1.2/24", "192.168.1.3"),
        ("fd00:15::1/64", "fd00:15::5/64", "fd00:1::2/64", "fd00:1::3"),
    ],
    ids=["IPv4", "IPv6"],
)
def test_routes_via_a_gateway(netns: Lab, red: Namespace, near: str, gateway: str, far: str, target: str) -> None:
    """Two routes and forwarding between them make a router; without forwarding nothing passes."""
    outside, host = netns.add_namespace("outside"), netns.host
    length = near.split("/")[1]
    netns.add_veth(red, host, addresses=(near, gateway))
    netns.add_veth(host, outside, addresses=(far, f"{target}/{length}"))
    red.add_route(ipaddress.ip_interface(far).network, via=gateway.split("/")[0])
    outside.add_default_route(via=host)
    assert not reaches(red, target)
    host.enable_forwarding()
    assert reaches(red, target)
    with listen(outside, 80) as server:
        assert peer_of_connection(red, target, 80, server) == near.split("/")[0]
    route = next(route for route in red.routes() if route.destination == ipaddress.ip_interface(far).network)
    assert (str(route.via), route.interface) == (gateway.split("/")[0], "veth-red")
    default = [route for route in outside.routes() if route.is_default]
    assert [str(route.via) for route in default] == [far.split("/")[0]]


def test_routes_by_interface_and_metric(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """dev= takes an interface or its name; of two routes to one destination the lower metric is used, and both are listed."""
    near, far = netns.add_veth(red, blue, addresses=FOUR)
    red.add_route("10.0.0.0/8", dev=near, metric=100)
    red.add_route("10.0.0.0/8", dev="lo", metric=200)
    assert [(route.interface, route.metric) for route in red.routes() if str(route.destination) == "10.0.0.0/8"] == [
        ("veth-red", 100),
        ("lo", 200),
    ]
    far.add_address("10.0.0.1/8")
    assert reaches(red, "10.0.0.1")


def test_a_namespace_as_gateway(netns_lan: Lab) -> None:
    """via= takes a namespace that shares a network, or its name."""
    netns_lan["red"].add_route("172.16.0.0/12", via="blue")
    netns_lan["red"].add_route("172.32.0.0/16", via=netns_lan["blue"])
    routes = {str(route.destination): str(route.via) for route in netns_lan["red"].routes()}
    assert routes["172.16.0.0/12"] == routes["172.32.0.0/16"] == "192.168.15.2"


def test_neighbours_of_both_families(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """ARP and neighbour discovery are in one list; an address without a neighbour is listed without a MAC."""
    _, far = netns.add_veth(red, blue, addresses=((FOUR[0], SIX[0]), (FOUR[1], SIX[1])))
    assert reaches(red, "192.168.15.2")
    assert reaches(red, "fd00:15::2")
    entries = {str(entry.address): entry for entry in red.neighbours()}
    for address in ("192.168.15.2", "fd00:15::2"):
        assert (entries[address].mac, entries[address].interface) == (far.mac, "veth-red")
        assert entries[address].state in {"reachable", "stale", "delay", "probe"}
    assert not reaches(red, "192.168.15.77")
    unknown = next(entry for entry in red.neighbours() if str(entry.address) == "192.168.15.77")
    assert unknown.mac == ""
    assert unknown.state in {"failed", "incomplete"}


def test_sysctl_is_the_namespaces_own(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """Settings of one namespace are visible to its programs, and in no other namespace."""
    with open("/proc/sys/net/ipv4/ip_default_ttl") as file:
        before = file.read()
    assert red.sysctl("net.ipv4.ip_default_ttl", 42) == "42"
    assert red.sysctl("net.ipv4.ip_default_ttl") == "42"
    assert red.run("cat /proc/sys/net/ipv4/ip_default_ttl").stdout == "42\n"
    assert blue.sysctl("net.ipv4.ip_default_ttl") != "42"
    with open("/proc/sys/net/ipv4/ip_default_ttl") as file:
        assert file.read() == before


NO_SUCH_INDEX = 9999
STARTS_WITH = {
    "ipv4/ip_forward": "0",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/forwarding": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/tcp_orphan_retries": "1",
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
}


def test_settings_a_namespace_starts_with(red: Namespace) -> None:
    """Every namespace has the same settings, whatever the host's and the kernel's defaults."""
    assert {key: red.sysctl(f"net/{key}") for key in STARTS_WITH} == STARTS_WITH
    groups = red.sysctl("net.ipv4.ping_group_range").split()
    assert int(groups[0]) <= os.getgid() <= int(groups[1])


@pytest.mark.parametrize("notified", [True, False], ids=["notified", "not notified"])
def test_settings_inherited_from_a_host_are_put_right(
    red: Namespace, monkeypatch: pytest.MonkeyPatch, notified: bool
) -> None:
    """A host may be a router with source filtering: a namespace's inherited settings are reset when it is created."""
    for key in STARTS_WITH:
        red.sysctl(f"net/{key}", 2 if "rp_filter" in key else 1)
    with red._kernel.entered():
        missing = {
            item
            for item in sysctls.defaults.__wrapped__().items() - sysctls.defaults().items()
            if item[0] in STARTS_WITH
        }
        assert missing <= {("ipv6/conf/all/accept_dad", "0")}
        with monkeypatch.context() as patch:
            if not notified:
                refused = rtlinks.get_link(NO_SUCH_INDEX, "none")
                patch.setattr(interface_settings, "READ_INHERITED", (refused, refused))
            red._kernel.set_up_loopback()
    found = {key: red.sysctl(f"net/{key}") for key in STARTS_WITH}
    assert found == STARTS_WITH | {key: "1" for key, _ in missing}
    up = rtlinks.set_link(LOOPBACK_INDEX, "lo", up=True)
    assert red._kernel.interface_settings.inherited_after(up).items() <= STARTS_WITH.items()
    with pytest.raises(KernelError, match="cannot set none up"):
        red._kernel.interface_settings.inherited_after(rtlinks.set_link(NO_SUCH_INDEX, "none", up=True))
    red.sysctl("net.ipv4.conf.default.forwarding", 1)  # separately: above, the setting for all includes it
    with red._kernel.entered():
        red._kernel.set_up_loopback()
    assert red.sysctl("net.ipv4.conf.default.forwarding") == "0"


def test_other_settings_inherited_from_a_host_are_put_right(red: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The administrator's changes for the machine's interfaces do not affect a namespace's."""
    changed = {
        "all/send_redirects": 0,
        "all/arp_ignore": 1,
        "default/promote_secondaries": 1,
        "default/shared_media": 0,
    }
    kernels_own = {key: red.sysctl(f"net/ipv4/conf/{key}") for key in changed}
    for key, value in changed.items():
        red.sysctl(f"net/ipv4/conf/{key}", value)
    with red.links.network.entered():
        wanted = sysctls.defaults.__wrapped__()
        monkeypatch.setattr(sysctls, "defaults", lambda: wanted)
    with Lab() as lab:
        again = lab.add_namespace("again")
        assert {key: again.sysctl(f"net/ipv4/conf/{key}") for key in changed} == kernels_own
    with red.links.network.entered():
        red.links.network.set_up_loopback()
    assert {key: red.sysctl(f"net/ipv4/conf/{key}") for key in changed} == kernels_own
    assert red.sysctl("net.ipv4.conf.lo.promote_secondaries") == "0"


def test_settings_where_proc_is_read_only(
    netns: Lab, red: Namespace, blue: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inherited defaults for new interfaces are overridden over netlink."""

    def refuse(key: str, value: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), key)

    red.sysctl("net.ipv4.conf.default.rp_filter", 1)
    red.sysctl("net.ipv4.conf.default.forwarding", 1)
    with monkeypatch.context() as patch:
        patch.setattr(sysctls, "write", refuse)
        with red._kernel.entered():
            red._kernel.set_up_loopback()
        netns.add_veth(red, blue)
    assert red.sysctl("net.ipv4.conf.veth-red.rp_filter") == "0"
    assert red.sysctl("net.ipv4.conf.veth-red.forwarding") == "0"


def test_settings_over_netlink_are_those_of_proc(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """IPv4 settings that an interface gets over netlink are in /proc/sys, and only for that interface."""
    netns.add_veth(red, blue)
    interface = red.interfaces["veth-red"]
    numbers = {"forwarding": rtlinks.IPV4_FORWARDING, "route_localnet": rtlinks.IPV4_ROUTE_LOCALNET}
    settings = dict.fromkeys(numbers.values(), 1) | {rtlinks.IPV4_RP_FILTER: 2}
    red._netlink.request(rtlinks.set_ipv4_settings(interface.index, interface.name, settings))
    expected = dict.fromkeys(numbers, "1") | {"rp_filter": "2"}
    for name, value in expected.items():
        assert red.sysctl(f"net.ipv4.conf.veth-red.{name}") == value
        assert red.sysctl(f"net.ipv4.conf.lo.{name}") == "0"


def test_settings_of_an_interface_with_a_dot(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """A dot in an interface's name is a slash in a setting's name, as in sysctl(8); or slashes separate all parts."""
    netns.add_veth(red, blue, names=("eth0.7", None))
    assert red.sysctl("net.ipv4.conf.eth0/7.rp_filter", 2) == "2"
    assert red.run("sysctl -n net.ipv4.conf.eth0/7.rp_filter").stdout == "2\n"
    assert red.sysctl("net/ipv4/conf/eth0.7/rp_filter") == "2"


def test_forwarding_is_off_until_enabled(red: Namespace) -> None:
    """Whatever the machine's setting, a namespace forwards nothing until enabled; then both families."""
    names = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
    assert [red.sysctl(name) for name in names] == ["0", "0"]
    red.enable_forwarding()
    assert [red.sysctl(name) for name in names] == ["1", "1"]


def test_sysctl_of_an_interface_with_a_dot_in_its_name(netns: Lab, red: Namespace, blue: Namespace) -> None:
    """Slashes can separate the parts of a setting whose name has dots, as in sysctl(8)."""
    netns.add_veth(red, blue, names=("eth0.5", "eth0"))
    assert red.sysctl("net/ipv4/conf/eth0.5/rp_filter", 2) == "2"


def test_two_labs_have_the_same_names_and_addresses() -> None:
    """Labs are independent: names, addresses and ports can be the same."""
    with Lab() as first, Lab() as second:
        for lab in (first, second):
            netns_red, netns_blue = lab.add_namespace("red"), lab.add_namespace("blue")
            lab.add_veth(netns_red, netns_blue, addresses=FOUR)
        with listen(first["blue"], 80) as one, listen(second["blue"], 80) as two:
            assert peer_of_connection(first["red"], "192.168.15.2", 80, one) == "192.168.15.1"
            assert peer_of_connection(second["red"], "192.168.15.2", 80, two) == "192.168.15.1"


# -- the kernel's errors -----------------------------------------------------------------------------


def test_the_kernels_own_words(netns_pair: Lab) -> None:
    """A refusal names the action, the namespace, the kernel's message, and the error number."""
    red = netns_pair["red"]
    with pytest.raises(KernelError) as caught:
        red.add_default_route(via="10.9.9.9")
    assert str(caught.value) == (
        "cannot add default route via 10.9.9.9 in namespace 'red': Nexthop has invalid gateway "
        "(Network is unreachable, ENETUNREACH)"
    )
    error = caught.value
    assert (error.errno, error.namespace, error.kernel_message) == (
        errno.ENETUNREACH,
        "red",
        "Nexthop has invalid gateway",
    )
    assert isinstance(error, OSError)


def test_refusals_without_words_have_the_errors_text(netns_pair: Lab) -> None:
    """If the kernel only returns a number, the action and the number's meaning are shown."""
    near = netns_pair["red"].interfaces["veth-red"]
    with pytest.raises(
        KernelError, match=re.escape("cannot add address 192.168.15.1/24 to veth-red in namespace 'red': ")
    ) as caught:
        near.add_address("192.168.15.1/24")
    assert caught.value.errno == errno.EEXIST
    with pytest.raises(KernelError, match="cannot remove address 10.0.0.1/8 from veth-red"):  # noqa: RUF043
        near.remove_address("10.0.0.1/8")
    netns_pair["red"].add_route("10.0.0.0/8", via="192.168.15.2")
    with pytest.raises(KernelError, match="cannot add route to 10.0.0.0/8 via 192.168.15.2 in namespace 'red'.*EEXIST"):  # noqa: RUF043
        netns_pair["red"].add_route("10.0.0.0/8", via="192.168.15.2")
    with pytest.raises(KernelError, match=r"cannot set sysctl net.ipv4.ip_forward to xyz in namespace 'red'.*EINVAL"):
        netns_pair["red"].sysctl("net.ipv4.ip_forward", "xyz")


def test_a_handle_whose_interface_is_gone(netns_pair: Lab) -> None:
    """Every call on a deleted interface names it in the error."""
    near, far = (netns_pair[name].interfaces[f"veth-{name}"] for name in ("red", "blue"))
    near.delete()
    for ask in (
        lambda: near.mtu,
        lambda: far.mac,
        near.up,
        near.down,
        near.delete,
        lambda: far.add_address("10.0.0.1/8"),
    ):
        with pytest.raises(KernelError, match=r"veth-(red|blue)( up| down)? in namespace '(red|blue)': .*ENODEV"):
            ask()


def test_a_bridge_side_takes_no_name_that_the_topology_gives(netns: Lab) -> None:
    """The bridge's end of a port gets a default name, but never one that the topology uses there."""
    netns.build(
        Topology(
            bridges=[BridgeSpec("v-net-0", subnet="192.168.15.0/24", ports=[PortSpec("red")])],
            veths=[VethSpec([VethEnd("host", name="veth-red-br"), VethEnd("outside")])],
        )
    )
    assert {"veth-red-br", "veth-red-br-2"} <= set(netns.host.interfaces)
    peer = netns.host.interfaces["veth-red-br"].peer
    assert peer is not None
    assert peer.namespace is netns["outside"]


def test_the_first_of_many_errors_is_raised(netns: Lab) -> None:
    """More errors than a socket can hold at once hide neither the first one nor later ones."""
    networks = [f"10.{n // 250}.{n % 250}.0/24" for n in range(500)]
    red = netns.add_namespace("red")
    red.run(["ip", "-batch", "-"], input="".join(f"route add blackhole {each}\n" for each in networks))
    ends = [VethEnd("red", address="192.168.15.1/24"), VethEnd("blue", address="192.168.15.2/24")]
    routes = [RouteSpec("red", each, via="192.168.15.2") for each in networks]
    with pytest.raises(KernelError, match=r"cannot add route to 10\.0\.0\.0/24 via 192\.168\.15\.2 .*EEXIST"):
        netns.build(Topology(veths=[VethSpec(ends)], routes=routes))
    rest = [str(route) for route in red.routes() if route.type != "blackhole"]
    assert rest == ["192.168.15.0/24 dev veth-red", "fe80::/64 dev veth-red"]

"""Invalid values are refused with the value and the valid ones, and nothing is left behind."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_netns import InvalidTopologyError, KernelError, Lab, NetnsError

BAD_NAMES = [
    "",
    "sixteen-letters-",
    "a/b",
    "a%d",
    "a\nb",
    "a\0b",
    "-x",
    ".",
    "..",
    "a b",
    "$(id)",
    "ü",
    "a\n",
    5,
    None,
    b"red",
]
real_kernel = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def contents(lab: Lab) -> dict[str, list[str]]:
    """Every namespace of a lab with its interfaces and their addresses, without those assigned by the kernel."""
    return {
        namespace.name: [
            " ".join([interface.name, *(str(each) for each in interface.addresses if not each.ip.is_link_local)])
            for interface in namespace.interfaces.values()
        ]
        for namespace in lab
    }


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (what, name)
        for what in ("namespace", "bridge", "veth", "port")
        for name in BAD_NAMES
        if not (name is None and what in ("veth", "port"))  # where it means the automatic name
        and not (name == "sixteen-letters-" and what == "namespace")  # whose names may be longer
    ],
)
def test_bad_names(netns_pair: Lab, what: str, name: Any) -> None:
    """No invalid name reaches the kernel."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    bridge = netns_pair.add_bridge("br0", namespace=red)
    before = contents(netns_pair)
    make: Callable[[], object] = {
        "namespace": lambda: netns_pair.add_namespace(name),
        "bridge": lambda: netns_pair.add_bridge(name, namespace=red),
        "veth": lambda: netns_pair.add_veth(red, blue, names=("ok", name)),
        "port": lambda: bridge.attach(blue, name=name),
    }[what]
    with pytest.raises(InvalidTopologyError, match=re.escape(repr(name))) as caught:
        make()
    assert f"1 to {63 if what == 'namespace' else 15} characters" in str(caught.value)
    assert contents(netns_pair) == before


@pytest.mark.parametrize("name", ["lo", "all", "default"])
def test_reserved_interface_names(netns_pair: Lab, name: str) -> None:
    """Names that the kernel reserves are refused for interfaces."""
    with pytest.raises(InvalidTopologyError, match=f"{name!r} as interface name: the kernel reserves"):
        netns_pair.add_bridge(name)
    assert "host" not in netns_pair


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("192.168.15.1", "needs a prefix length"),
        ("192.168.15.0/24", "address of the network itself; '192.168.15.1/24' would be valid"),
        ("192.168.15.255/24", "broadcast address"),
        ("192.168.15.1/33", "write it like"),
        ("192.168.15.300/24", "write it like"),
        ("0.0.0.0/0", "not a unicast address"),
        ("224.0.0.5/24", "not a unicast address"),
        ("fd00::/64", "address of the network itself"),
        ("fe80::1%eth0/64", "leave out"),
        ("localhost/8", "write it like"),
        (80, "needs a prefix length"),
        ("", "needs a prefix length"),
    ],
)
def test_bad_interface_addresses(netns_pair: Lab, address: Any, hint: str) -> None:
    """An address that no interface can have is refused by all calls that take one, before anything is created."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    bridge = netns_pair.add_bridge("br0", namespace=red)
    before = contents(netns_pair)
    for make in (
        lambda: netns_pair.add_veth(red, blue, addresses=(address, None)),
        lambda: netns_pair.add_veth(red, blue, addresses=("10.0.0.1/8", address)),
        lambda: netns_pair.add_bridge("br1", address, namespace=red),
        lambda: bridge.attach(blue, address),
        lambda: bridge.add_address(address),
    ):
        with pytest.raises(InvalidTopologyError) as caught:
            make()
        assert str(address) in str(caught.value)
        assert hint in str(caught.value)
    assert contents(netns_pair) == before


def test_addresses_twice(netns_pair: Lab) -> None:
    """The same address twice in one call is refused by the plugin, one that the interface already has by the kernel."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    before = contents(netns_pair)
    with pytest.raises(InvalidTopologyError, match=r"'10\.0\.0\.1/8' twice"):
        netns_pair.add_veth(red, blue, addresses=(["10.0.0.1/8", "10.0.0.1/8"], None))
    with pytest.raises(KernelError, match="add address 192.168.15.1/24 to veth-red"):  # noqa: RUF043
        red.interfaces["veth-red"].add_address("192.168.15.1/24")
    assert contents(netns_pair) == before


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("10.0.0.0/8", {}), "via=GATEWAY or dev=INTERFACE"),
        (("10.0.0.1/8", {"via": "192.168.15.2"}), "'10.0.0.0/8' would be valid"),
        (("default", {"via": ["192.168.15.2", "fd00::1"]}), "they are of different families"),
        (
            ("10.0.0.0/8", {"type": "blackhole", "via": "192.168.15.2"}),
            "such a route has no gateway or interface; leave out via and dev",
        ),
        (("10.0.0.0/8", {"type": "blackhol"}), "did you mean 'blackhole'"),
        (("10.0.0.0/8", {"via": "192.168.15.2", "table": "mane"}), "cannot use 'mane' as routing table"),
        (("10.0.0.0/8", {"via": "192.168.15.2", "source": "192.168.15.1/24"}), "as source of a route"),
        (("fd00::/64", {"via": "192.168.15.2"}), "another family; use an IPv6 address"),
        (("10.0.0.0/8", {"via": "192.168.15.2/24"}), "without prefix length"),
        (("10.0.0.0/8", {"via": "bleu"}), "'bleu'"),
        (("10.0.0.0/8", {"via": "lonely"}), "no network in common"),
        (("10.0.0.0/8", {"dev": "veth-rde"}), "did you mean 'veth-red'"),
        (("everywhere", {"via": "192.168.15.2"}), "'everywhere'"),
    ],
)
def test_bad_routes(netns_pair: Lab, arguments: tuple[str, dict[str, str]], hint: str) -> None:
    """An invalid route is refused with the value and the valid ones; the table stays unchanged."""
    netns_pair.add_namespace("lonely")
    red = netns_pair["red"]
    before = red.routes()
    with pytest.raises(InvalidTopologyError, match=re.escape(hint)):
        red.add_route(arguments[0], **arguments[1])  # type: ignore[arg-type]
    assert red.routes() == before


def test_duplicates(netns_pair: Lab) -> None:
    """A namespace's or an interface's name can be used once; the error names its owner."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    before = contents(netns_pair)
    with pytest.raises(InvalidTopologyError, match="'red': this lab already has one of that name"):
        netns_pair.add_namespace("red")
    for make in (
        lambda: netns_pair.add_veth(red, blue, names=("veth-red", "x")),
        lambda: netns_pair.add_veth(blue, red, names=("x", "veth-red")),
        lambda: netns_pair.add_bridge("veth-red", namespace=red),
    ):
        with pytest.raises(
            InvalidTopologyError, match="'veth-red' to namespace 'red': it already has one of that name"
        ):
            make()
    assert contents(netns_pair) == before


def test_a_name_that_a_program_took(netns_pair: Lab) -> None:
    """An interface created by a program inside is detected by the plugin or the kernel, and nothing is left behind."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    red.run("ip link add taken type bridge")
    before = contents(netns_pair)
    for names, ends in ((("taken", "x"), (red, blue)), (("x", "taken"), (blue, red))):
        with pytest.raises(NetnsError, match="taken"):
            netns_pair.add_veth(*ends, names=names)
        assert contents(netns_pair) == before


def test_namespaces_that_are_not_of_this_lab(netns_pair: Lab) -> None:
    """The error for an unknown name suggests the known ones; namespaces of another or a closed lab are refused by name."""
    red = netns_pair["red"]
    with pytest.raises(InvalidTopologyError, match="'bleu' in this lab: .*did you mean 'blue'"):  # noqa: RUF043
        netns_pair["bleu"]
    with Lab() as other:
        foreign = other.add_namespace("foreign")
        bridge = netns_pair.add_bridge("br0", namespace=red)
        for make in (
            lambda: netns_pair.add_veth(red, foreign),
            lambda: netns_pair.add_bridge("br1", namespace=foreign),
            lambda: bridge.attach(foreign),
            lambda: red.add_default_route(via=foreign),
        ):
            with pytest.raises(InvalidTopologyError, match="'foreign' in this lab: it belongs to another lab"):
                make()
        assert contents(other) == {"foreign": ["lo 127.0.0.1/8 ::1/128"]}
    with pytest.raises(InvalidTopologyError, match="'foreign' in this lab"):
        netns_pair.add_veth(red, foreign)
    for thing in ("red", None, 5):
        with pytest.raises(InvalidTopologyError, match=r"lab\.add_namespace\(\)"):
            netns_pair.add_veth(red, thing)  # type: ignore[arg-type]


@pytest.mark.parametrize("mtu", [67, 65536, -1, "1500", 1500.0, True])
def test_bad_mtus(netns_pair: Lab, mtu: Any) -> None:
    """An MTU is a whole number from 68 to 65535."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    before = contents(netns_pair)
    for make in (
        lambda: netns_pair.add_veth(red, blue, mtu=mtu),
        lambda: netns_pair.add_bridge("br0", namespace=red, mtu=mtu),
        lambda: setattr(red.interfaces["veth-red"], "mtu", mtu),
    ):
        with pytest.raises(InvalidTopologyError, match=f"{re.escape(repr(mtu))} as MTU.*68 to 65535"):
            make()
    assert contents(netns_pair) == before


@pytest.mark.parametrize(
    "name", ["kernel.panic", "net/../kernel/panic", "../x", "net", "", "net.ipv4.no_such", "net.ipv4"]
)
def test_bad_sysctls(netns_pair: Lab, name: str) -> None:
    """Only settings of a network namespace can be read or written; no path leads to others."""
    with pytest.raises(NetnsError, match=re.escape(name or "''")):
        netns_pair["red"].sysctl(name)
    with pytest.raises(NetnsError, match=re.escape(name or "''")):
        netns_pair["red"].sysctl(name, 1)


@real_kernel
@given(name=st.one_of(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", fullmatch=True), st.text(max_size=17)))
def test_any_name_is_made_as_it_is_or_refused(name: str) -> None:
    """For any text as a name: an interface of exactly that name exists, or there is an error and nothing else."""
    with Lab() as lab:
        red = lab.add_namespace("red")
        try:
            lab.add_bridge(name, namespace=red)
        except InvalidTopologyError as error:
            assert repr(name) in str(error)  # noqa: PT017
            assert list(red.interfaces) == ["lo"]
        else:
            assert list(red.interfaces) == ["lo", name]
            assert red.run(["cat", "/proc/net/dev"]).stdout.count("\n") == 4
    try:
        with Lab() as lab:
            assert lab.add_namespace(name).name == name
    except InvalidTopologyError as error:
        assert repr(name) in str(error)  # noqa: PT017


@real_kernel
@given(address=st.ip_addresses(), prefix=st.integers(0, 130))
def test_any_address_is_added_or_refused(address: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int) -> None:
    """For any address: the interface has exactly that one, or an error of the plugin gives the reason and it has none."""
    text = f"{address}/{prefix}"
    with Lab() as lab:
        bridge = lab.add_bridge("br0")
        before = bridge.addresses
        try:
            bridge.add_address(text)
        except NetnsError as error:
            assert str(address) in str(error)  # noqa: PT017
            assert bridge.addresses == before
        else:
            assert [item for item in bridge.addresses if item not in before] == [ipaddress.ip_interface(text)]
            bridge.remove_address(text)
            assert bridge.addresses == before


def test_an_interface_is_not_attached_but_plugged_in(netns: Lab) -> None:
    """`attach` takes a namespace; the refusal of an interface names the call that takes one."""
    first, _ = netns.add_veth(netns.host, netns.add_namespace("red"))
    bridge = netns.add_bridge("br0")
    with pytest.raises(
        InvalidTopologyError, match=r"cannot attach <Interface .*>: .* use bridge.add_port\(interface\)"
    ):
        bridge.attach(first)  # type: ignore[arg-type]
    bridge.add_port(first)
    assert "br0" in netns.host.run(["ip", "link", "show", "master", "br0"]).stdout

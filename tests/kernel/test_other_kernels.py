"""Kernels with more or fewer features than this one: also run on a second kernel, see docs/development.md."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from pytest_netns import Lab, RulesetError, UnavailableError
from pytest_netns.kernel.netlink import messages, rtlinks
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.rtlinks import FALLBACK_TUNNELS
from pytest_netns.kernel.netlink.wire import NLM_F_CREATE, NLM_F_EXCL
from pytest_netns.kernel.spaces import interface_settings
from pytest_netns.kernel.system import ipv6
from tests.support.traffic import reaches

pytestmark = pytest.mark.kernels
without_ipv6 = pytest.mark.skipif(ipv6.missing() is None, reason="needs a kernel without IPv6")


def added_by_the_kernel(netns: Lab) -> list[str]:
    """The fallback tunnels of a new namespace."""
    listed = netns.add_namespace("fresh").run(["ls", "/sys/class/net"]).stdout.split()
    listed = [name for name in listed if name != "bonding_masters"]  # a file of the bonding module, not an interface
    assert set(listed) - {"lo"} <= set(FALLBACK_TUNNELS.values())
    return [name for name in listed if name != "lo"]


def test_a_new_namespace_has_lo_and_nothing_else(netns: Lab) -> None:
    """A kernel's fallback tunnels are not interfaces of the namespace, in lists and in drawings."""
    red = netns.add_namespace("red")
    assert list(red.interfaces) == ["lo"]
    for name in added_by_the_kernel(netns):
        assert name not in red.interfaces
        assert name not in str(netns)


def test_a_fallback_tunnel_that_is_used_is_listed(netns: Lab) -> None:
    """Once a test has brought one up it is a normal interface; Ethernet ones cannot be brought up."""
    red = netns.add_namespace("red")
    for name in set(added_by_the_kernel(netns)) - {"gretap0", "erspan0"}:
        red.run(["ip", "link", "set", name, "up"])
        assert name in red.interfaces
        assert red.interfaces[name].is_up


@pytest.mark.parametrize("family", ["ip", "ip6", "inet", "arp", "bridge", "netdev"])
def test_families_of_nft(netns: Lab, family: str) -> None:
    """Tables of a family work, or the error says that the machine lacks them, never that the ruleset is wrong."""
    try:
        netns.host.nft(f"add table {family} mine")
    except UnavailableError as error:
        lack = error
    else:
        assert f"table {family} mine" in netns.host.ruleset()
        with pytest.raises(RulesetError, match="No such file or directory"):
            netns.host.nft(f"delete table {family} other")
        return
    assert f"tables of family {family}" in lack.cause
    assert "CONFIG_NF_TABLES_INET" in lack.remedy


@pytest.mark.parametrize("kind", ["veth", "bridge", "dummy", "wireguard", "nosuchkind"])
def test_kinds_of_interfaces(netns: Lab, kind: str) -> None:
    """An interface of a kind is created, or the error says that the machine lacks it, with the module to load."""
    links = netns.host.links
    body = messages.body("link", {}, {"ifname": "x", "linkinfo": {"kind": kind}})
    request = Request(("add", kind), rtlinks.RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)
    try:
        links.change(request)
    except UnavailableError as error:
        lack = error
    else:
        assert links.read(links.find("x")).kind == kind
        return
    assert kind not in ("veth", "bridge")
    assert str(lack).startswith(
        f"cannot use interfaces of kind {kind}: this kernel lacks it, or its module is not loaded"
    )
    assert lack.remedy == f"sudo modprobe {kind}"


@without_ipv6
def test_ipv4_works_without_ipv6(netns_lan: Lab) -> None:
    """Two hosts behind a router reach each other in a ready-made picture; the end of the run shows what is missing."""
    assert reaches(netns_lan["red"], "192.168.15.2")
    assert netns_lan.host.sysctl("net.ipv4.ip_forward") == "1"
    assert any(line.startswith("forwarding of IPv6: this kernel was") for line in interface_settings.refused())


@without_ipv6
@pytest.mark.netns("lan", enter="red")
def test_the_marker_works_without_ipv6() -> None:
    """The body is inside, and works with IPv4."""
    with socket.create_server(("192.168.15.1", 80)) as server:
        assert server.getsockname() == ("192.168.15.1", 80)


@without_ipv6
def test_what_needs_ipv6_says_that_it_is_missing(netns: Lab) -> None:
    """IPv6 addresses, routes, sockets and settings: the error names cause and remedy, and IPv4 keeps working."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    link = netns.add_veth(red, blue, addresses=("192.168.15.1/24", "192.168.15.2/24"))
    steps = (
        lambda: link.a.add_address("fd00:15::1/64"),
        lambda: red.add_route("fd00:16::/64", dev=link.a),
        lambda: red.socket(socket.AF_INET6),
        lambda: red.sysctl("net.ipv6.conf.all.forwarding"),
        lambda: netns.add_veth(red, blue, addresses=("fd00:17::1/64", "fd00:17::2/64")),
    )
    for step in steps:
        with pytest.raises(
            UnavailableError, match=r"cannot use IPv6: this kernel was started with ipv6\.disable=1"
        ) as caught:
            step()
        assert caught.value.remedy.startswith("remove ipv6.disable=1 from the kernel's parameters")
    assert reaches(red, "192.168.15.2")


@without_ipv6
def test_the_doctor_says_that_ipv6_is_missing() -> None:
    """It works, and IPv6 is listed as missing."""
    done = subprocess.run([sys.executable, "-m", "pytest_netns", "doctor"], capture_output=True, text=True, check=True)
    assert "It works here" in done.stdout
    assert "IPv6: this kernel was started with ipv6.disable=1, or is built without IPv6" in " ".join(
        done.stdout.split()
    )

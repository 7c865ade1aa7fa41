"""Routes and rules: the kernel has what is added, and all it has is listed."""

from __future__ import annotations

import errno

import pytest

from pytest_netns import InvalidTopologyError, KernelError, Lab, Namespace, RouteSpec, Topology, VethEnd, VethSpec
from tests.support.traffic import reaches


@pytest.fixture
def dual(netns: Lab) -> tuple[Namespace, Namespace, Namespace]:
    """red, a router, and a namespace behind it, with IPv4 and IPv6."""
    red, gw, far = (netns.add_namespace(name) for name in ("red", "gw", "far"))
    netns.add_veth(
        red, gw, addresses=(("10.0.0.2/24", "fd00::2/64"), ("10.0.0.1/24", "fd00::1/64")), names=("eth0", "a")
    )
    netns.add_veth(
        gw, far, addresses=(("10.1.0.1/24", "fd01::1/64"), ("10.1.0.2/24", "fd01::2/64")), names=("b", "eth0")
    )
    gw.enable_forwarding()
    far.add_default_route(via=gw)
    return red, gw, far


@pytest.fixture
def two_ways(netns: Lab) -> Namespace:
    """A namespace with two links to a router."""
    red, router = netns.add_namespace("red"), netns.add_namespace("router")
    netns.add_veth(red, router, addresses=("10.0.1.2/24", "10.0.1.1/24"), names=("eth0", "a"))
    netns.add_veth(red, router, addresses=("10.0.3.2/24", "10.0.3.1/24"), names=("eth1", "b"))
    router.interfaces["lo"].add_address("10.9.9.9/32")
    return red


def shown(namespace: Namespace, *words: str) -> list[str]:
    """The output of ip(8) inside."""
    return [line.strip() for line in namespace.run(["ip", *words]).stdout.splitlines()]


def test_gateway_by_name_is_of_the_family_of_the_destination(dual: tuple[Namespace, ...]) -> None:
    """A gateway given as a namespace has an address for each family: that of the destination's family is used."""
    red, gw, _ = dual
    red.add_route("fd01::/64", via="gw")
    red.add_route("10.1.0.0/24", via=gw)
    assert {"10.1.0.0/24 via 10.0.0.1 dev eth0", "fd01::/64 via fd00::1 dev eth0"} <= set(map(str, red.routes()))
    assert reaches(red, "10.1.0.2")
    assert reaches(red, "fd01::2")


def test_default_route_by_name_is_for_both_families(dual: tuple[Namespace, ...]) -> None:
    """As in a topology; removing it by name removes both."""
    red, _, _ = dual
    red.add_default_route(via="gw")
    assert {route.destination.version for route in red.routes() if route.is_default} == {4, 6}
    assert reaches(red, "10.1.0.2")
    assert reaches(red, "fd01::2")
    red.remove_route("default")
    assert not [route for route in red.routes() if route.is_default]
    with pytest.raises(KernelError, match="cannot remove default route in namespace 'red'"):
        red.remove_route("default")


def test_link_local_gateway_with_a_zone(dual: tuple[Namespace, ...]) -> None:
    """A link-local gateway has its interface as a zone, or dev names it, in a call and in a topology."""
    red, gw, _ = dual
    address = next(each.ip for each in gw.interfaces["a"].addresses if each.ip.is_link_local)
    red.add_route("fd01::/64", via=f"{address}%eth0")
    assert reaches(red, "fd01::2")
    red.lab.build(Topology(veths=[VethSpec([VethEnd("one", name="eth0"), VethEnd("two")])],
                           routes=[RouteSpec("one", "fd05::/64", via="fe80::9%eth0")]))  # fmt: skip
    assert "fd05::/64 via fe80::9 dev eth0" in map(str, red.lab["one"].routes())


def test_ipv4_by_an_ipv6_gateway(dual: tuple[Namespace, ...]) -> None:
    """The kernel accepts an IPv6 gateway for an IPv4 route, RFC 5549."""
    red, _, _ = dual
    red.add_route("10.1.0.0/24", via="fd00::1")
    assert "10.1.0.0/24 via inet6 fd00::1 dev eth0" in shown(red, "route")
    assert "10.1.0.0/24 via fd00::1 dev eth0" in map(str, red.routes())
    assert reaches(red, "10.1.0.2")


def test_multipath_route(two_ways: Namespace) -> None:
    """A multipath route is listed with all gateways, in the drawing too; so is one of a program."""
    two_ways.add_route("10.8.0.0/16", via=["10.0.1.1", "10.0.3.1"])
    two_ways.run("ip route add 10.7.0.0/16 nexthop via 10.0.1.1 weight 2 nexthop via 10.0.3.1")
    (added,) = [route for route in two_ways.routes() if str(route.destination) == "10.8.0.0/16"]
    assert str(added) == "10.8.0.0/16 nexthop via 10.0.1.1 dev eth0 nexthop via 10.0.3.1 dev eth1"
    assert [(str(hop.via), hop.interface) for hop in added.hops] == [("10.0.1.1", "eth0"), ("10.0.3.1", "eth1")]
    assert (str(added.via), added.interface) == ("10.0.1.1", "eth0")
    assert "10.7.0.0/16 nexthop via 10.0.1.1 dev eth0 weight 2 nexthop via 10.0.3.1 dev eth1" in two_ways.lab.draw()
    two_ways.remove_route("10.8.0.0/16")
    assert "10.8.0.0/16" not in {str(route.destination) for route in two_ways.routes()}


def test_routes_of_a_topology(netns: Lab) -> None:
    """Several gateways, a table and a type in TOML are what the kernel then has, IPv4 and IPv6."""
    topology = Topology.loads("""
        veths = [
          { subnet = "10.1.0.0/24", subnet6 = "fd01::/64", ends = [{ namespace = "red", name = "eth0" }, { namespace = "a" }] },
          { subnet = "10.2.0.0/24", subnet6 = "fd02::/64", ends = [{ namespace = "red", name = "eth1" }, { namespace = "b" }] },
        ]
        routes = [
          { namespace = "red", destination = "default", via = ["a", "10.2.0.2"] },
          { namespace = "red", destination = "fd09::/16", via = ["a", "b"], metric = 7 },
          { namespace = "red", destination = "default", via = "b", table = 101 },
          { namespace = "red", destination = "10.7.0.0/16", type = "unreachable" },
          { namespace = "red", destination = "fd07::/16", type = "blackhole", table = 101 },
        ]
    """)
    netns.build(topology)
    red = netns["red"]
    found = set(map(str, red.routes()))
    assert {
        "default nexthop via 10.1.0.2 dev eth0 nexthop via 10.2.0.2 dev eth1",
        "fd09::/16 nexthop via fd01::2 dev eth0 nexthop via fd02::2 dev eth1",
        "unreachable 10.7.0.0/16",
    } <= found
    assert set(map(str, red.routes(101))) == {
        "default via 10.2.0.2 dev eth1 table 101",
        "default via fd02::2 dev eth1 table 101",
        "blackhole fd07::/16 table 101",
    }
    assert [route.metric for route in red.routes() if str(route.destination) == "fd09::/16"] == [7]
    with pytest.raises(KernelError, match="because of an unreachable route"):
        red.route_to("10.7.1.1")


@pytest.mark.parametrize(
    ("type_", "number"), [("unreachable", errno.EHOSTUNREACH), ("prohibit", errno.EACCES), ("blackhole", errno.EINVAL)]
)
@pytest.mark.parametrize(("network", "inside"), [("10.7.0.0/16", "10.7.0.1"), ("fd07::/16", "fd07::1")])
def test_routes_that_lead_nowhere(netns_pair: Lab, type_: str, number: int, network: str, inside: str) -> None:
    """They are listed and drawn with their type, and looking up a route names it in the error."""
    red = netns_pair["red"]
    red.add_route(network, type=type_)
    assert f"{type_} {network}" in map(str, red.routes())
    assert f"{type_} {network}" in netns_pair.draw()
    with pytest.raises(KernelError, match=f"cannot find route to {inside} in namespace 'red'.*") as caught:
        red.route_to(inside)
    assert caught.value.errno == number
    red.remove_route(network)
    assert type_ not in {route.type for route in red.routes()}


def test_way_to_an_address(two_ways: Namespace) -> None:
    """The route, the interface and the source address that the kernel chooses; without one there is an error."""
    two_ways.add_route("10.9.0.0/16", via="10.0.3.1")
    route = two_ways.route_to("10.9.9.9")
    assert (str(route.via), route.interface, str(route.source), route.type) == (
        "10.0.3.1",
        "eth1",
        "10.0.3.2",
        "unicast",
    )
    assert str(two_ways.route_to("router").destination) in ("10.0.1.1/32", "10.0.3.1/32")
    assert two_ways.route_to("10.0.1.2").type == "local"
    with pytest.raises(
        KernelError, match=r"cannot find route to 172\.16\.0\.1 in namespace 'red': .*ENETUNREACH"
    ) as caught:
        two_ways.route_to("172.16.0.1")
    assert caught.value.errno == errno.ENETUNREACH


def test_rules_and_other_tables(two_ways: Namespace) -> None:
    """Packets that match a rule use the routes of its table; both are listed, drawn, and can be removed."""
    two_ways.add_route("10.9.9.9", via="10.0.1.1")
    two_ways.add_route("10.9.9.9", via="10.0.3.1", table=101)
    two_ways.add_rule(source="10.0.3.2", table=101, priority=100)
    two_ways.add_rule(mark=7, table=101)
    assert two_ways.route_to("10.9.9.9").interface == "eth0"
    assert two_ways.route_to("10.9.9.9", source="10.0.3.2").interface == "eth1"
    assert two_ways.route_to("10.9.9.9", mark=7).interface == "eth1"
    assert [str(route) for route in two_ways.routes(table=101)] == ["10.9.9.9/32 via 10.0.3.1 dev eth1 table 101"]
    assert "100: from 10.0.3.2/32 lookup 101" in map(str, two_ways.rules())
    assert shown(two_ways, "rule").count("100:\tfrom 10.0.3.2 lookup 101") == 1
    assert [rule.version for rule in two_ways.rules() if rule.mark == 7] == [4, 6]
    drawing = two_ways.lab.draw()
    assert "10.9.9.9/32 via 10.0.3.1 dev eth1 table 101" in drawing
    assert "rule 100: from 10.0.3.2/32 lookup 101" in drawing
    two_ways.remove_rule(source="10.0.3.2", table=101)
    two_ways.remove_rule(mark=7)
    assert two_ways.route_to("10.9.9.9", source="10.0.3.2").interface == "eth0"


def test_replaced_route(two_ways: Namespace) -> None:
    """A route replaces the existing one; without one it is added."""
    two_ways.replace_route("10.9.0.0/16", via="10.0.1.1")
    two_ways.replace_route("10.9.0.0/16", via="10.0.3.1")
    assert [str(r) for r in two_ways.routes() if r.via is not None] == ["10.9.0.0/16 via 10.0.3.1 dev eth1"]


def test_source_and_onlink(two_ways: Namespace) -> None:
    """A route can set the source address, and say that its gateway is on the link whatever the addresses."""
    two_ways.interfaces["lo"].add_address("10.5.5.5/32")
    two_ways.add_route("10.9.0.0/16", via="172.16.0.1", dev="eth0", onlink=True, source="10.5.5.5")
    (route,) = [each for each in two_ways.routes() if each.via is not None]
    assert str(route) == "10.9.0.0/16 via 172.16.0.1 dev eth0 src 10.5.5.5"
    assert str(two_ways.route_to("10.9.9.9").source) == "10.5.5.5"


def test_source_and_onlink_in_a_topology(netns: Lab) -> None:
    """Routes of topologies have them too, in TOML and back."""
    topology = Topology(
        veths=[
            VethSpec(
                [
                    VethEnd("red", address=["10.0.0.1/24", "10.0.0.9/24", "fd00::1/64"]),
                    VethEnd("gw", address="10.0.0.2/24"),
                ]
            )
        ],
        routes=[
            RouteSpec("red", "default", via="gw", source="10.0.0.9"),
            RouteSpec("red", "10.9.0.0/16", via="172.16.0.1", dev="veth-red", onlink=True),
        ],
    )
    netns.build(Topology.loads(topology.dumps()))
    assert [str(each) for each in netns["red"].routes() if each.via is not None] == [
        "default via 10.0.0.2 dev veth-red src 10.0.0.9",
        "10.9.0.0/16 via 172.16.0.1 dev veth-red",
    ]
    assert "172.16.0.1 dev veth-red onlink" in netns["red"].run("ip route").stdout


def test_source_determines_the_family(dual: tuple[Namespace, Namespace, Namespace]) -> None:
    """A default route through a namespace has only the family of its source; a wrong source is an error that names it."""
    red, _, _ = dual
    red.add_route("default", via="gw", source="fd00::2")
    assert [str(each) for each in red.routes() if each.is_default] == ["default via fd00::1 dev eth0 src fd00::2"]
    with pytest.raises(InvalidTopologyError, match=r"cannot use 'fd00::2' as source of a route: .*another family"):
        red.add_route("10.9.0.0/16", via="gw", source="fd00::2")
    with pytest.raises(KernelError, match=r"add route to 10\.9\.0\.0/16 via 10\.0\.0\.1 src 10\.0\.0\.77 in"):
        red.add_route("10.9.0.0/16", via="gw", source="10.0.0.77")


def test_what_the_kernel_finds_out_is_no_route(netns: Lab) -> None:
    """The MTU of a path, learned from a router, is not in the routing table."""
    red, router, blue = (netns.add_namespace(name) for name in ("red", "router", "blue"))
    netns.add_veth(red, router, addresses=("10.0.1.2/24", "10.0.1.1/24"), mtu=2000)
    netns.add_veth(router, blue, addresses=("10.0.2.1/24", "10.0.2.2/24"), mtu=1400)
    router.enable_forwarding()
    red.add_default_route(via="10.0.1.1")
    blue.add_default_route(via="10.0.2.1")
    before = red.routes()
    red.run("ping -c1 -W1 -M want -s 1800 10.0.2.2", check=False)
    assert "mtu 1400" in red.run("ip route get 10.0.2.2").stdout
    assert red.routes() == before


def test_neighbour_that_is_added(netns_pair: Lab) -> None:
    """A given MAC address of a neighbour is used without resolution, until it is removed."""
    red, blue = netns_pair["red"], netns_pair["blue"]
    red.add_neighbour("192.168.15.2", "02:00:00:00:00:99", "veth-red")
    assert "192.168.15.2 02:00:00:00:00:99 dev veth-red permanent" in map(str, red.neighbours())
    assert not reaches(red, "192.168.15.2")
    red.remove_neighbour("192.168.15.2", red.interfaces["veth-red"])
    assert reaches(red, "192.168.15.2")
    assert blue.interfaces["veth-blue"].mac in {each.mac for each in red.neighbours()}

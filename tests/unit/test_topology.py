"""A topology is a value: built in Python, filled in, compared, hashed, and available as pictures."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.topology import (
    PICTURES,
    BridgeSpec,
    MasqueradeSpec,
    NamespaceSpec,
    PortForwardSpec,
    PortSpec,
    RouteSpec,
    Topology,
    VethEnd,
    VethSpec,
)


def addresses_of(topology: Topology) -> dict[str, list[str]]:
    """Addresses by interface, as NAMESPACE/INTERFACE."""
    return {f"{each.namespace}/{each.name}": [str(a) for a in each.addresses] for each in topology.interfaces}


def lan(*ports: PortSpec, **options: object) -> Topology:
    """Ports on one bridge in host."""
    return Topology(bridges=[BridgeSpec("v-net-0", ports=ports, **options)])  # type: ignore[arg-type]


def test_the_pictures_are_those_of_the_introduction() -> None:
    """pair, lan and nat have the names and addresses of the documentation's drawing."""
    assert addresses_of(PICTURES["pair"]) == {
        "red/veth-red": ["192.168.15.1/24"],
        "blue/veth-blue": ["192.168.15.2/24"],
    }
    on_lan = {
        "host/v-net-0": ["192.168.15.5/24"],
        "red/veth-red": ["192.168.15.1/24"],
        "host/veth-red-br": [],
        "blue/veth-blue": ["192.168.15.2/24"],
        "host/veth-blue-br": [],
    }
    assert addresses_of(PICTURES["lan"]) == on_lan
    assert addresses_of(PICTURES["nat"]) == on_lan | {
        "outside/eth0": ["192.168.1.3/24"],
        "host/eth0": ["192.168.1.2/24"],
    }
    assert [(each.namespace, str(each.via)) for each in PICTURES["nat"].routes] == [
        ("red", "192.168.15.5"),
        ("blue", "192.168.15.5"),
    ]
    assert PICTURES["nat"].masquerades == (MasqueradeSpec("host", "192.168.15.0/24", out="eth0"),)
    assert PICTURES["nat"].namespaces == (NamespaceSpec("host", forwarding=True),)


def test_one_value_or_several_of_text_or_object_are_the_same() -> None:
    """Addresses can be text or ipaddress objects, one or any sequence, with either keyword."""
    wanted = PortSpec("red", addresses=("10.0.0.1/24", "fd00::1/64"))
    assert PortSpec("red", address=["10.0.0.1/24", ip_interface("fd00::1/64")]) == wanted
    assert PortSpec("red", address="10.0.0.1/24", addresses=iter(["fd00::1/64"])) == wanted
    assert wanted.addresses == (ip_interface("10.0.0.1/24"), ip_interface("fd00::1/64"))
    assert NamespaceSpec("red", hostnames="api") == NamespaceSpec("red", hostnames=["api"])
    assert NamespaceSpec("red", sysctls={"net.a": 1}) == NamespaceSpec("red", sysctls=[("net.a", "1")])


@pytest.mark.parametrize("name", PICTURES)
def test_topologies_are_values(name: str) -> None:
    """Equal topologies are equal and hash alike, and survive copying, pickling and replacing."""
    topology = PICTURES[name]
    for twin in (copy.deepcopy(topology), pickle.loads(pickle.dumps(topology)), dataclasses.replace(topology)):
        assert twin == topology
        assert hash(twin) == hash(topology)
    with pytest.raises(dataclasses.FrozenInstanceError):
        topology.routes = ()  # type: ignore[misc]


def test_a_sysctls_mapping_is_copied() -> None:
    """Changing the mapping afterwards changes no topology."""
    settings: dict[str, str | int] = {"net.ipv4.ip_forward": 1}
    namespace = NamespaceSpec("red", sysctls=settings)
    settings["net.ipv4.ip_forward"] = 0
    assert namespace.sysctls == (("net.ipv4.ip_forward", "1"),)


def test_namespaces_in_order_of_mention() -> None:
    """Declared namespaces come first, then those mentioned, each once."""
    topology = Topology(
        [NamespaceSpec("zoo")],
        [BridgeSpec("br0", namespace="gw", ports=[PortSpec("red"), PortSpec("zoo")])],
        veths=[VethSpec([VethEnd("gw"), VethEnd("outside")])],
        port_forwards=[],
    )
    assert topology.namespace_names == ("zoo", "gw", "red", "outside")


def test_a_subnet_gives_addresses_in_order_and_the_gateway_its_own() -> None:
    """Ports take .1, .2 ...; the bridge takes .254, and the 254th IPv6 address."""
    topology = lan(PortSpec("red"), PortSpec("blue"), subnet="192.168.15.0/24", subnet6="fd00::/64")
    found = addresses_of(topology)
    assert found["red/veth-red"] == ["192.168.15.1/24", "fd00::1/64"]
    assert found["blue/veth-blue"] == ["192.168.15.2/24", "fd00::2/64"]
    assert found["host/v-net-0"] == ["192.168.15.254/24", "fd00::fe/64"]


def test_given_addresses_are_kept_and_skipped() -> None:
    """An interface with an address of a family keeps it, and no other gets it, wherever it is written."""
    topology = lan(
        PortSpec("a"), PortSpec("b", address="10.0.0.7/24"), PortSpec("c", address="10.0.0.1/24"), PortSpec("d"),
        PortSpec("e", address="10.0.0.254/24"), PortSpec("f", address="fd00::1/64"), subnet="10.0.0.0/24",
    )  # fmt: skip
    found = {name.partition("/")[0]: held for name, held in addresses_of(topology).items() if held}
    assert found == {
        "host": ["10.0.0.253/24"], "a": ["10.0.0.2/24"], "b": ["10.0.0.7/24"], "c": ["10.0.0.1/24"],
        "d": ["10.0.0.3/24"], "e": ["10.0.0.254/24"], "f": ["fd00::1/64", "10.0.0.4/24"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("subnet", "bridge"),
    [("10.0.0.0/16", "10.0.0.254/16"), ("10.0.0.0/28", "10.0.0.14/28"), ("10.0.0.0/31", "10.0.0.1/31")],
)
def test_the_gateway_of_other_subnets(subnet: str, bridge: str) -> None:
    """The gateway is the 254th address, or the last one of a smaller subnet."""
    assert addresses_of(lan(PortSpec("red"), subnet=subnet))["host/v-net-0"] == [bridge]


def test_more_members_than_254() -> None:
    """In a large subnet the members' addresses continue after the gateway's."""
    found = addresses_of(lan(*(PortSpec(f"n{n}") for n in range(300)), subnet="10.0.0.0/16"))
    assert found["n252/veth-n252"] == ["10.0.0.253/16"]
    assert found["n253/veth-n253"] == ["10.0.0.255/16"]


def test_a_veth_takes_the_first_two_addresses() -> None:
    """The ends of a veth pair with a subnet take its first two addresses."""
    topology = Topology(veths=[VethSpec([VethEnd("red"), VethEnd("blue")], subnet="10.0.0.0/30", subnet6="fd00::/127")])
    assert addresses_of(topology) == {
        "red/veth-red": ["10.0.0.1/30", "fd00::/127"],
        "blue/veth-blue": ["10.0.0.2/30", "fd00::1/127"],
    }


def test_automatic_names_make_way_for_given_ones() -> None:
    """A name given later in the topology is not used for an automatic one before it."""
    topology = Topology(
        bridges=[BridgeSpec("br0", ports=[PortSpec("red")])],
        veths=[VethSpec([VethEnd("red", name="veth-red"), VethEnd("host", name="veth-red-br")])],
    )
    assert {(each.namespace, each.name) for each in topology.interfaces} == {
        ("host", "br0"), ("host", "veth-red-br"), ("host", "veth-red-br-2"), ("red", "veth-red"), ("red", "veth-red-2"),
    }  # fmt: skip


def test_assigned_leaves_nothing_open() -> None:
    """Names, addresses, MTUs and default routes are filled in, and then nothing is left to assign."""
    topology = lan(
        PortSpec("red", mtu=1400), PortSpec("blue"), subnet="10.0.0.0/24", subnet6="fd00::/64", gateway=True, mtu=9000
    )
    assigned = topology.assigned()
    bridge = assigned.bridges[0]
    assert (bridge.subnet, bridge.subnet6, bridge.gateway) == (None, None, False)
    assert bridge.ports[0] == PortSpec("red", name="veth-red", addresses=["10.0.0.1/24", "fd00::1/64"], mtu=1400)
    assert bridge.ports[1].mtu == 9000
    assert assigned.routes == tuple(
        RouteSpec(name, "default", via=via) for name in ("red", "blue") for via in ("10.0.0.254", "fd00::fe")
    )
    assert assigned.interfaces == topology.interfaces
    assert assigned.assigned() == assigned


def test_an_own_default_route_is_kept() -> None:
    """A gateway bridge adds no default route if one of that family is given."""
    own = RouteSpec("red", "0.0.0.0/0", via="10.0.0.2")
    ports = [PortSpec("red"), PortSpec("blue")]
    bridge = BridgeSpec("br0", ports=ports, subnet="10.0.0.0/24", subnet6="fd00::/64", gateway=True)
    routes = Topology(bridges=[bridge], routes=[own]).assigned().routes
    assert [(each.namespace, str(each.via)) for each in routes] == [
        ("red", "10.0.0.2"), ("red", "fd00::fe"), ("blue", "10.0.0.254"), ("blue", "fd00::fe"),
    ]  # fmt: skip


def test_a_gateway_by_name_is_the_neighbours_address() -> None:
    """A namespace named as gateway stands for its address on the common network, in the destination's family."""
    topology = Topology(
        veths=[
            VethSpec([VethEnd("red"), VethEnd("gw")], subnet="10.0.0.0/24", subnet6="fd00::/64"),
            VethSpec([VethEnd("gw"), VethEnd("outside")], subnet="10.1.0.0/24"),
        ],
        routes=[RouteSpec("red", "default", via="gw"), RouteSpec("outside", "10.0.0.0/24", via="gw", metric=5)],
    )
    assert [str(each.via) for each in topology.resolve_gateway(topology.routes[0])] == ["10.0.0.2", "fd00::2"]
    assert topology.resolve_gateway(topology.routes[1]) == (
        RouteSpec("outside", "10.0.0.0/24", via="10.1.0.1", metric=5),
    )
    assert len(topology.assigned().routes) == 3


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (
            RouteSpec("red", "default", via="outside"),
            "it has no address on a network of 'red'; 'red' is on '10.0.0.0/24'",
        ),
        (RouteSpec("red", "default", via="red"), "it has no address on a network of 'red'"),
        (RouteSpec("red", "fd00::/64", via="gw"), "it has no IPv6 address on a network of 'red'"),
        (
            RouteSpec("outside", "default", via="gw"),
            "several addresses there; write the one you mean: '10.1.0.1', '10.1.0.2'",
        ),
    ],
)
def test_a_gateway_by_name_must_be_one_neighbour(route: RouteSpec, message: str) -> None:
    """A name that is no neighbour, or has several addresses, is refused with the valid ones."""
    veths = [
        VethSpec([VethEnd("red"), VethEnd("gw")], subnet="10.0.0.0/24"),
        VethSpec([VethEnd("gw", addresses=["10.1.0.1/24", "10.1.0.2/24"]), VethEnd("outside")], subnet="10.1.0.0/24"),
    ]
    with pytest.raises(InvalidTopologyError) as caught:
        Topology(veths=veths).resolve_gateway(route)
    assert message in str(caught.value)
    with pytest.raises(InvalidTopologyError, match=r"routes\[0\]\.via: cannot use"):
        Topology(veths=veths, routes=[route])


def test_a_gateway_by_name_is_behind_the_interface_named() -> None:
    """With two links to the same neighbour, dev decides which of its addresses is used."""
    veths = [VethSpec([VethEnd("red", name=f"eth{n}"), VethEnd("gw")], subnet=f"10.{n}.0.0/24") for n in range(2)]
    topology = Topology(veths=veths, routes=[RouteSpec("red", "default", via="gw", dev="eth1")])
    assert [str(each.via) for each in topology.assigned().routes] == ["10.1.0.2"]


def two_gateways(*routes: RouteSpec) -> Topology:
    """red with a link to each of two gateways, one with both families."""
    veths = [
        VethSpec([VethEnd("red"), VethEnd("gw1")], subnet="10.1.0.0/24", subnet6="fd01::/64"),
        VethSpec([VethEnd("red"), VethEnd("gw2")], subnet="10.2.0.0/24", subnet6="fd02::/64"),
        VethSpec([VethEnd("red"), VethEnd("gw3")], subnet="10.3.0.0/24"),
    ]
    return Topology(veths=veths, routes=routes)


@pytest.mark.parametrize(
    ("via", "found"),
    [
        (["gw1", "gw2"], [["10.1.0.2", "10.2.0.2"], ["fd01::2", "fd02::2"]]),
        (["gw1", "gw3"], [["10.1.0.2", "10.3.0.2"]]),
        (["gw1", "fd02::2"], [["fd01::2", "fd02::2"]]),
        (["10.1.0.2", "10.2.0.2"], [["10.1.0.2", "10.2.0.2"]]),
    ],
)
def test_several_gateways_by_name(via: list[str], found: list[list[str]]) -> None:
    """A default route by several names is one route for each family that all of them have."""
    topology = two_gateways(RouteSpec("red", "default", via=via))
    assert [[str(each) for each in route.gateways] for route in topology.assigned().routes] == found
    assert [str(each.via) for each in topology.assigned().routes] == [each[0] for each in found]


@pytest.mark.parametrize("via", [["gw3", "fd02::2"], ["10.1.0.2", "fd02::2"], ["fd02::2", "10.1.0.2"]])
def test_several_gateways_of_different_families(via: list[str]) -> None:
    """One default route cannot have gateways of both families."""
    with pytest.raises(
        InvalidTopologyError, match=r"routes\[0\]\.via: cannot use .*(different families|no IPv6 address)"
    ):
        two_gateways(RouteSpec("red", "default", via=via))


def test_routes_of_other_tables() -> None:
    """A default route in another table replaces none; the same destination can be in several tables."""
    bridge = BridgeSpec("br0", ports=[PortSpec("red")], subnet="10.0.0.0/24", gateway=True)
    routes = [
        RouteSpec("red", "default", via="host", table=101),
        RouteSpec("red", "default", via="host", table="default"),
    ]
    assigned = Topology(bridges=[bridge], routes=routes).assigned().routes
    assert [(str(each.via), each.table) for each in assigned] == [
        ("10.0.0.254", 101),
        ("10.0.0.254", 253),
        ("10.0.0.254", None),
    ]
    with pytest.raises(InvalidTopologyError, match="twice"):
        Topology(
            bridges=[bridge],
            routes=[RouteSpec("red", "0.0.0.0/0", via="host", table=table) for table in ("main", None)],
        )


def test_the_same_network_elsewhere_makes_no_neighbour() -> None:
    """Two segments that may share a network stay separate: a namespace on the other one is no gateway."""
    veths = [VethSpec([VethEnd(a), VethEnd(b)], subnet="10.0.0.0/24") for a, b in (("red", "blue"), ("gw", "outside"))]
    topology = Topology(veths=veths, allow_overlap=True)
    with pytest.raises(InvalidTopologyError, match="no address on a network of 'red'"):
        topology.resolve_gateway(RouteSpec("red", "default", via="gw"))


def test_inline_is_the_picture_in_one_line() -> None:
    """The marker's short form: a bridge in host that is the gateway of all, masquerade and port forwards."""
    topology = Topology.inline(
        ["red", "blue"], subnet6="fd00::/64", masquerade=True, forward={8080: "blue:80", "udp/53": "red:53"}
    )
    assert topology.namespace_names == ("host", "red", "blue")
    assert topology.namespaces == (NamespaceSpec("host", forwarding=True),)
    assert topology.bridges[0].name == "v-net-0"
    assert [str(each.source) for each in topology.masquerades] == ["192.168.15.0/24", "fd00::/64"]
    assert topology.port_forwards == (
        PortForwardSpec("host", 8080, "blue:80"),
        PortForwardSpec("host", 53, "red:53", protocol="udp"),
    )
    assert len(topology.assigned().routes) == 4
    assert Topology.inline(["red"], subnet=None, subnet6="fd00::/64").bridges[0].subnet is None


def test_inline_reports_all_mistakes() -> None:
    """Invalid names, ports and targets of the short form come in one error."""
    with pytest.raises(InvalidTopologyError) as caught:
        Topology.inline(["red", "b l u e"], forward={"tpc/80": "red:80", 81: "rde:80"})
    assert len(caught.value.problems) == 3
    assert "did you mean 'red'" in str(caught.value)


def test_fields_hold_parsed_values() -> None:
    """A lab gets ipaddress objects, not text."""
    route = RouteSpec("red", "10.0.0.0/8", via="10.1.0.1")
    assert (route.destination, route.via) == (ip_network("10.0.0.0/8"), ip_address("10.1.0.1"))
    assert RouteSpec("red", "default", via="gw").destination == "default"
    assert PortForwardSpec("host", 80, "blue:8080").to[0].host == "blue"

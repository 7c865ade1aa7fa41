"""Two offices behind routers, joined over the internet by a VXLAN tunnel: their networks see each other as one."""

import pytest

from pytest_netns import NamespaceSpec, RouteSpec, Topology, VethEnd, VethSpec

SITES = Topology(
    namespaces=[NamespaceSpec(name, forwarding=True) for name in ("west", "east", "internet")],
    veths=[
        VethSpec([VethEnd("desk", address="10.1.0.2/24"), VethEnd("west", name="lan", address="10.1.0.1/24")]),
        VethSpec([VethEnd("west", name="wan", address="192.0.2.1/30"), VethEnd("internet", address="192.0.2.2/30")]),
        VethSpec(
            [VethEnd("east", name="wan", address="198.51.100.1/30"), VethEnd("internet", address="198.51.100.2/30")]
        ),
        VethSpec([VethEnd("server", address="10.2.0.2/24"), VethEnd("east", name="lan", address="10.2.0.1/24")]),
    ],
    routes=[
        RouteSpec("desk", "default", via="west"),
        RouteSpec("server", "default", via="east"),
        RouteSpec("west", "default", via="internet"),
        RouteSpec("east", "default", via="internet"),
    ],
)


def dig_tunnel(router, *, local, remote, inside, other_network, other_inside):
    """One end of the tunnel: what goes to the other office's network goes into it."""
    router.run(f"ip link add tunnel type vxlan id 42 dstport 4789 dev wan local {local} remote {remote}")
    tunnel = router.interfaces["tunnel"]
    tunnel.add_address(inside)
    tunnel.up()
    router.add_route(other_network, via=other_inside)


@pytest.fixture
def sites(netns):
    netns.build(SITES)
    return netns


@pytest.fixture
def tunnel(sites):
    west, east = "192.0.2.1", "198.51.100.1"
    dig_tunnel(
        sites["west"],
        local=west,
        remote=east,
        inside="10.9.0.1/30",
        other_network="10.2.0.0/24",
        other_inside="10.9.0.2",
    )
    dig_tunnel(
        sites["east"],
        local=east,
        remote=west,
        inside="10.9.0.2/30",
        other_network="10.1.0.0/24",
        other_inside="10.9.0.1",
    )


def test_without_tunnel_the_other_office_is_out_of_reach(sites):
    assert (
        sites["desk"].run("ping -c1 -W1 10.2.0.2", check=False).returncode == 1
    )  # the internet knows no private networks


def test_through_the_tunnel(sites, tunnel):
    with sites.capture() as packets:
        sites["desk"].run("ping -c1 -W2 10.2.0.2")
    on_the_way = [packet for packet in packets if packet.namespace == "internet" and packet.protocol != "arp"]
    assert {packet.destination_port for packet in on_the_way if packet.protocol == "udp"} == {4789}
    assert not [packet for packet in on_the_way if packet.protocol == "icmp"]  # nobody there sees who talks to whom


def test_large_packets_fit(sites, tunnel):
    """VXLAN takes 50 bytes of each packet: the tunnel's MTU says so, and larger ones are split."""
    assert sites["west"].interfaces["tunnel"].mtu == 1450
    sites["desk"].run("ping -c1 -W2 -s 4000 10.2.0.2")

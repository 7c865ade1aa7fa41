"""Two offices behind routers, joined over the internet by a VXLAN tunnel: their networks are connected.

The offices, the routers and the internet are in sites.toml.
"""

import pytest

from pytest_netns import Lab, Namespace

pytestmark = pytest.mark.netns("sites.toml", enter=None)


def dig(router: Namespace, local: str, remote: str, inside: str, route: tuple[str, str]) -> None:
    """One end of the tunnel: packets to the other office go into it."""
    router.run(f"ip link add tunnel type vxlan id 42 dstport 4789 dev wan local {local} remote {remote}")
    tunnel = router.interfaces["tunnel"]
    tunnel.add_address(inside)
    tunnel.up()
    network, gateway = route
    router.add_route(network, via=gateway)


@pytest.fixture
def tunnel(netns: Lab) -> None:
    dig(netns["west"], "192.0.2.1", "198.51.100.1", "10.9.0.1/30", route=("10.2.0.0/24", "10.9.0.2"))
    dig(netns["east"], "198.51.100.1", "192.0.2.1", "10.9.0.2/30", route=("10.1.0.0/24", "10.9.0.1"))


def test_without_tunnel_the_other_office_is_out_of_reach(netns: Lab) -> None:
    """The internet has no routes to private networks."""
    assert netns["desk"].run("ping -c1 -W1 10.2.0.2", check=False).returncode == 1


def test_through_the_tunnel(netns: Lab, tunnel: None) -> None:
    with netns.capture() as packets:
        netns["desk"].run("ping -c1 -W2 10.2.0.2")
    on_the_way = [packet for packet in packets if packet.namespace == "internet" and packet.protocol != "arp"]
    assert {packet.destination_port for packet in on_the_way if packet.protocol == "udp"} == {4789}
    assert not [packet for packet in on_the_way if packet.protocol == "icmp"]  # the inner packets are invisible there


def test_large_packets_fit(netns: Lab, tunnel: None) -> None:
    """VXLAN takes 50 bytes of each packet: the tunnel's MTU is lower, and larger packets are fragmented."""
    assert netns["west"].interfaces["tunnel"].mtu == 1450
    netns["desk"].run("ping -c1 -W2 -s 4000 10.2.0.2")

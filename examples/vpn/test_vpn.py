"""WireGuard in user space joins two offices behind NAT; the internet sees only encrypted packets; an office changes its address."""

from pathlib import Path

import pytest

from pytest_netns import Lab, Topology

CONFIG = """
[Interface]
PrivateKey = {private}
ListenPort = 51820
[Peer]
PublicKey = {public}
AllowedIPs = {networks}
PersistentKeepalive = 1
{endpoint}
"""
OTHER = {"b": "a", "a": "b"}  # the passive one comes first
NETWORKS = {"a": "192.168.1.0/24", "b": "192.168.2.0/24"}


@pytest.fixture
def offices(netns: Lab, request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    """The two offices, joined."""
    netns.build(Topology.from_toml(request.path.parent / "offices.toml"))
    hosts = {site: netns[f"vpn-{site}"] for site in OTHER}
    keys = {site: host.run("wg genkey").stdout for site, host in hosts.items()}
    public = {site: host.run("wg pubkey", input=keys[site]).stdout for site, host in hosts.items()}
    for site, host in hosts.items():
        other = OTHER[site]
        host.tmpfs("/run/wireguard")  # where each has a socket of the same name
        host.start(["wireguard-go", "-f", "wg0"], ready=Path("/run/wireguard/wg0.sock"))
        # Only the first office is configured with the other's address, which has a port forward.
        endpoint = "Endpoint = 203.0.113.2:51820" if site == "a" else ""
        path = tmp_path / f"{site}.conf"
        path.write_text(
            CONFIG.format(private=keys[site], public=public[other], networks=NETWORKS[other], endpoint=endpoint)
        )
        host.run(["wg", "setconf", "wg0", path])
        host.interfaces["wg0"].up()
        host.add_route(NETWORKS[other], dev="wg0")
    netns["server"].start(["python3", "-m", "http.server", "80"], ready=80)
    netns.wait_until(lambda: netns["client"].probe("192.168.2.10:80") == "open", timeout=20)
    return netns


def test_the_internet_sees_the_gateways_only(offices: Lab) -> None:
    with offices.capture() as packets:
        page = offices["client"].run("curl -sS http://192.168.2.10/").stdout
    assert "Directory listing" in page
    seen = [packet for packet in packets if packet.namespace == "internet" and "." in packet.source]
    seen = [packet for packet in seen if packet.protocol not in ("arp", "igmp")]
    assert {packet.protocol for packet in seen} == {"udp"}
    assert {packet.source for packet in seen} == {"203.0.113.1", "203.0.113.2"}


def test_an_office_gets_another_address(offices: Lab) -> None:
    wan = offices["gw-a"].interfaces["wan"]
    wan.add_address("203.0.113.77/24")
    wan.remove_address("203.0.113.1/24")
    offices["gw-a"].run("conntrack -F")
    with offices.capture() as packets:
        offices.wait_until(lambda: offices["client"].probe("192.168.2.10:80") == "open", timeout=20)
    assert any(packet.namespace == "internet" and packet.source == "203.0.113.77" for packet in packets)


def test_the_internet_is_gone_for_a_while(offices: Lab) -> None:
    with offices.cut("gw-b", to="gw-a"):
        assert offices["client"].probe("192.168.2.10:80") == "timeout"
    offices.wait_until(lambda: offices["client"].probe("192.168.2.10:80") == "open", timeout=20)

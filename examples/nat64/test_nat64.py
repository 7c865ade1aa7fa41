"""An IPv6-only network that reaches IPv4-only servers: NAT64 by tayga, DNS64 by unbound (RFC 6146, RFC 6147)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_netns import Lab, Topology

PREFIX = "2001:db8:64::/96"  # the prefix of addresses that are mapped to IPv4 ones
POOL = "192.168.255.0/24"  # the IPv4 addresses of tayga's clients
TAYGA = """\
tun-device nat64
ipv4-addr 192.168.255.1
ipv6-addr 2001:db8:ff::1
prefix {prefix}
dynamic-pool {pool}
data-dir {directory}
"""
UNBOUND = """\
server:
  interface: 2001:db8:1::1
  access-control: ::/0 allow
  module-config: "dns64 iterator"
  dns64-prefix: {prefix}
  do-daemonize: no
  use-syslog: no
  logfile: ""
  username: ""
  chroot: ""
  pidfile: ""
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: 198.51.100.2
"""


@pytest.fixture
def network(netns: Lab, tmp_path: Path) -> Lab:
    """The network of nat64.toml with a web server, its name server, and both translators."""
    netns.build(Topology.from_toml(Path(__file__).parent / "nat64.toml"))
    gw, web = netns["gw"], netns["web"]
    web.start(["python3", "-m", "http.server", "80", "--bind", "198.51.100.2"], ready=80)
    web.start(
        "dnsmasq --keep-in-foreground --no-resolv --no-hosts --user=root --pid-file= --bind-interfaces "
        "--listen-address=198.51.100.2 --address=/web.example/198.51.100.2",
        ready="udp/53",
    )
    config = tmp_path / "tayga.conf"
    config.write_text(TAYGA.format(prefix=PREFIX, pool=POOL, directory=tmp_path))
    gw.run(["tayga", "-c", str(config), "--mktun"])
    gw.interfaces["nat64"].up()
    gw.add_route(POOL, dev="nat64")
    gw.add_route(PREFIX, dev="nat64")
    gw.masquerade(POOL, out="wan")
    gw.start(["tayga", "-c", str(config), "--nodetach", "-d"])
    config = tmp_path / "unbound.conf"
    config.write_text(UNBOUND.format(prefix=PREFIX))
    gw.start(["unbound", "-d", "-c", str(config)], ready="udp/53")
    return netns


def test_the_phone_has_no_ipv4(network: Lab) -> None:
    """The phone's network has only IPv6."""
    routes = [route for route in network["phone"].routes() if route.destination.version == 4]
    assert not [route for route in routes if route.interface != "lo"]


def test_an_ipv4_server_is_reached_by_name(network: Lab) -> None:
    """The name has an IPv6 address that is mapped to the server's, and the web page arrives."""
    phone = network["phone"]
    assert "2001:db8:64::c633:6402" in phone.run("getent ahostsv6 web.example").stdout
    assert "Directory listing" in phone.run("curl -sf --max-time 10 http://web.example/").stdout


def test_ping(network: Lab) -> None:
    """ICMPv6 is translated to ICMP, and back."""
    network["phone"].run("ping -c1 -W3 2001:db8:64::198.51.100.2")

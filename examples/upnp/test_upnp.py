"""A program behind a home router that opens a port itself: UPnP and NAT-PMP by miniupnpd, besides the plugin's own NAT."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_netns import Lab, Service

# The same as in miniupnpd's own nft_init.sh.
TABLE = """
table inet filter {
  chain forward {
    type filter hook forward priority 0; policy accept
    jump miniupnpd
  }
  chain miniupnpd { }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept
    jump prerouting_miniupnpd
  }
  chain prerouting_miniupnpd { }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept
    jump postrouting_miniupnpd
  }
  chain postrouting_miniupnpd { }
}
"""
# It refuses to run behind a private address, so it is given a public one.
CONFIG = """\
ext_ifname=eth0
ext_ip=192.0.9.7
listening_ip=v-net-0
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
port=5000
uuid=00000000-0000-0000-0000-000000000001
allow 1024-65535 192.168.15.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""
DESCRIPTION = "http://192.168.15.5:5000/rootDesc.xml"


@pytest.fixture
def router(netns_nat: Lab, tmp_path: Path) -> Service:
    """host as a home router that opens ports on request from inside."""
    host = netns_nat.host
    host.nat("192.168.15.0/24", out="eth0", like="home")
    host.nft(TABLE)
    config = tmp_path / "miniupnpd.conf"
    config.write_text(CONFIG)
    return host.start(["miniupnpd", "-d", "-f", str(config), "-P", str(tmp_path / "pid")], ready="udp/5351")


def test_upnp(netns_nat: Lab, router: Service) -> None:
    """blue opens port 9000 of the router, outside reaches it, and blue closes it again."""
    blue, outside = netns_nat["blue"], netns_nat["outside"]
    blue.start("python3 -m http.server 8080", ready=8080)
    blue.run(f"upnpc -u {DESCRIPTION} -a 192.168.15.2 8080 9000 tcp")
    assert "Directory listing" in outside.run("curl -sf http://192.168.1.2:9000/").stdout
    blue.run(f"upnpc -u {DESCRIPTION} -d 9000 tcp")
    assert outside.probe("192.168.1.2:9000") == "refused"


def test_only_for_oneself(netns_nat: Lab, router: Service) -> None:
    """red may not open a port for blue."""
    output = netns_nat["red"].run(f"upnpc -u {DESCRIPTION} -a 192.168.15.2 8080 9001 tcp", check=False).stdout
    assert "failed" in output
    assert netns_nat["outside"].probe("192.168.1.2:9001") == "refused"

"""keepalived on two gateways: when the master is cut off, the address moves, and gratuitous ARP informs the client."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_netns import Lab, Packet

CONFIG = """
vrrp_instance gateway {{
  state BACKUP
  interface eth0
  version 3
  virtual_router_id 51
  priority {priority}
  advert_int 0.1
  garp_master_refresh 1
  virtual_ipaddress {{ 192.168.15.100/24 }}
}}
"""
ADDRESS = "192.168.15.100"


@pytest.fixture
def gateways(netns: Lab, tmp_path: Path) -> Lab:
    """Two gateways that share an address, and a client, on one switch; keepalived's lock files in /run are private."""
    switch = netns.add_bridge("switch")
    for number, name in enumerate(("first", "second", "client"), 1):
        switch.attach(netns.add_namespace(name, private=["/run"]), f"192.168.15.{number}/24", name="eth0")
    for name, priority in (("first", 200), ("second", 100)):
        config = tmp_path / f"{name}.conf"
        config.write_text(CONFIG.format(priority=priority))
        netns[name].start(["keepalived", "--vrrp", "--dont-fork", "--log-console", "--use-file", str(config)])
    netns.wait_until(lambda: holds(netns, "first"))
    return netns


def holds(lab: Lab, name: str) -> bool:
    """Whether a gateway has the shared address."""
    return any(str(address.ip) == ADDRESS for address in lab[name].interfaces["eth0"].addresses)


def announcement(lab: Lab, name: str) -> Callable[[Packet], bool]:
    """The condition of a packet that informs the client of a gateway's address."""
    mac = lab[name].interfaces["eth0"].mac

    def is_it(packet: Packet) -> bool:
        here = packet.namespace == "client" and not packet.sent
        return here and packet.protocol == "arp" and packet.source == ADDRESS and packet.data[6:12].hex(":") == mac

    return is_it


def test_the_address_moves_and_comes_back(gateways: Lab) -> None:
    client = gateways["client"]
    client.run(["ping", "-c1", "-W1", ADDRESS])

    with gateways.capture() as packets, gateways["first"].isolate():
        packets.wait(announcement(gateways, "second"), timeout=20)
        assert holds(gateways, "second")
        client.run(["ping", "-c1", "-W1", ADDRESS])

    with gateways.capture() as packets:
        gateways.wait_until(lambda: not holds(gateways, "second"), timeout=20)  # the first one has the higher priority
        # It did not notice that it was cut off: only its announcement every second corrects the client.
        packets.wait(announcement(gateways, "first"), timeout=20)
    client.run(["ping", "-c1", "-W1", ADDRESS])

"""dnsmasq as DHCP and DNS server of a small office: red and blue get their addresses and names from it."""

import re
from pathlib import Path

import pytest

from pytest_netns import Lab, Namespace, Service

NETWORK = "192.168.15"


@pytest.fixture
def office(netns: Lab) -> Lab:
    """A bridge with host on it, and two machines without addresses."""
    lan = netns.add_bridge("v-net-0", f"{NETWORK}.5/24")
    for name in ("red", "blue"):
        lan.attach(netns.add_namespace(name), name="eth0", mac="02:00:00:00:00:0" + ("1" if name == "red" else "2"))
    return netns


@pytest.fixture
def dnsmasq(office: Lab, tmp_path: Path) -> Service:
    return office.host.start(
        ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--log-dhcp", "--user=", "--group=",
         f"--pid-file={tmp_path}/pid", f"--dhcp-leasefile={tmp_path}/leases", "--no-resolv", "--no-hosts", "--no-ping",
         "--interface=v-net-0", "--bind-interfaces", "--domain=office.test", "--local=/office.test/", "--expand-hosts",
         f"--dhcp-range={NETWORK}.50,{NETWORK}.90,1h", f"--dhcp-host=02:00:00:00:00:02,{NETWORK}.60,blue",
         f"--address=/www.example.com/{NETWORK}.5"],
        ready="udp/67",
    )  # fmt: skip


def ask_for_address(machine: Namespace, tmp_path: Path) -> str:
    """Run a DHCP client, which configures the interface."""
    script = tmp_path / f"{machine.name}.sh"
    script.write_text(
        '#!/bin/sh\n[ "$1" = bound ] && ip address replace $ip/$mask dev $interface && ip route replace default via $router\nexit 0\n'
    )
    script.chmod(0o755)
    machine.run(["udhcpc", "-i", "eth0", "-n", "-q", "-x", f"hostname:{machine.name}", "-s", script], timeout=20)
    return str(machine.interfaces["eth0"].addresses[0].ip)


def test_red_gets_an_address_of_the_range_and_blue_its_own(office: Lab, dnsmasq: Service, tmp_path: Path) -> None:
    red = ask_for_address(office["red"], tmp_path)
    assert 50 <= int(red.rpartition(".")[2]) <= 90
    assert ask_for_address(office["blue"], tmp_path) == f"{NETWORK}.60"
    assert re.search(rf"DHCPACK\(v-net-0\) {red} 02:00:00:00:00:01 red", dnsmasq.output)
    office["red"].run(f"ping -c1 -W2 {NETWORK}.60")


def test_names_of_hosts_with_leases(office: Lab, dnsmasq: Service, tmp_path: Path) -> None:
    ask_for_address(office["red"], tmp_path)
    ask_for_address(office["blue"], tmp_path)
    for name, address in (("blue.office.test", f"{NETWORK}.60"), ("www.example.com", f"{NETWORK}.5")):
        assert office["red"].run(f"dig +short +tries=1 +time=2 @{NETWORK}.5 {name}").stdout.strip() == address
    answer = office["red"].run(f"dig +tries=1 +time=2 @{NETWORK}.5 green.office.test").stdout
    assert "NXDOMAIN" in answer

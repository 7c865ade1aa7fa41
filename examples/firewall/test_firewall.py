"""A LAN, a DMZ and the internet around one firewall: permitted connections, rejects and drops, counters and a log."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_netns import Firewall, Lab, Topology

OFFICE = Path(__file__).parent / "office.toml"
WEB = "python3 -m http.server 443"


@pytest.fixture
def office(netns: Lab) -> Lab:
    """The network of office.toml, with a web server in the DMZ and one in the LAN."""
    netns.build(Topology.from_toml(OFFICE))
    netns["web"].start(WEB, ready=443)
    netns["pc"].start(WEB, ready=443)
    return netns


@pytest.fixture
def firewall(office: Lab) -> Firewall:
    """443 to the DMZ only, everything out of the LAN; packets from the LAN are rejected, those from the internet dropped."""
    fw = office["gw"].firewall(policy="drop")
    fw.accept(destination="web", protocol="tcp", port=443)
    fw.accept(incoming="lan", outgoing="wan")
    fw.reject(incoming="dmz", log=True)
    return fw


def test_the_web_server_is_reached_from_everywhere(office: Lab, firewall: Firewall) -> None:
    """From the internet and from the LAN, on 443; the rule's counter shows how often."""
    assert office["client"].probe("203.0.113.2:443") == "open"
    assert office["pc"].probe("203.0.113.2:443") == "open"
    assert firewall.rules[0].packets == 2


def test_other_ports_and_the_lan_are_not(office: Lab, firewall: Firewall) -> None:
    """The internet gets no answer from other ports or from the LAN: it cannot even detect them."""
    assert office["client"].probe("203.0.113.2:22", timeout=0.3) == "timeout"
    assert office["client"].probe("10.0.0.2:443", timeout=0.3) == "timeout"
    assert firewall.packets


def test_a_server_that_was_broken_into_gets_nowhere(office: Lab, firewall: Firewall) -> None:
    """The DMZ starts no connections: they are rejected at once, and logged."""
    assert office["web"].probe("10.0.0.2:443") == "refused"
    assert office["web"].probe("198.51.100.2:80") == "refused"
    log = firewall.rules[2].log
    assert [(packet.source, packet.destination) for packet in log] == [
        ("203.0.113.2", "10.0.0.2"),
        ("203.0.113.2", "198.51.100.2"),
    ]


def test_without_the_firewall_everybody_reaches_everybody(office: Lab, firewall: Firewall) -> None:
    """The purpose of the firewall."""
    firewall.remove()
    assert office["client"].probe("10.0.0.2:443") == "open"

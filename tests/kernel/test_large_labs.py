"""Very large topologies: they build, packets are routed, and they are drawn and reported."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_netns import BridgeSpec, Lab, NamespaceSpec, PortSpec, RouteSpec, Topology, VethEnd, VethSpec
from pytest_netns.lab import hosts

HOSTS, ROUTERS = 200, 50


def test_many_namespaces_on_one_bridge(netns: Lab) -> None:
    """200 namespaces on a bridge: the last one reaches the first, and all are drawn."""
    ports = [PortSpec(f"n{n}") for n in range(HOSTS)]
    netns.build(Topology(bridges=[BridgeSpec("v-net-0", subnet="10.0.0.0/16", ports=ports)]))
    assert len(netns) == HOSTS + 1
    netns["n199"].run(["ping", "-c1", "-W5", "10.0.0.1"])
    assert netns.draw().count("veth-n") == 2 * HOSTS


def test_chain_of_routers(netns: Lab) -> None:
    """A chain of 50 routers: a packet passes all of them, each decrementing its time to live."""
    last = ROUTERS - 2
    netns.build(
        Topology(
            namespaces=[NamespaceSpec(f"r{n}", forwarding=True) for n in range(ROUTERS)],
            veths=[
                VethSpec([VethEnd(f"r{n}"), VethEnd(f"r{n + 1}")], subnet=f"10.0.{n}.0/24") for n in range(ROUTERS - 1)
            ],
            routes=[
                *(RouteSpec(f"r{n}", f"10.0.{last}.0/24", via=f"r{n + 1}") for n in range(last)),
                *(RouteSpec(f"r{n}", "10.0.0.0/24", via=f"r{n - 1}") for n in range(2, ROUTERS)),
            ],
        )
    )
    there = netns[f"r{ROUTERS - 1}"].routes()
    assert any(str(route.destination) == f"10.0.{last}.0/24" for route in there)
    answer = netns["r0"].run(["ping", "-c1", "-W5", f"10.0.{last}.2"])
    assert f"ttl={64 - (ROUTERS - 2)}" in answer.stdout


def test_names_cost_in_proportion(netns: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hosts file that all share is computed once for each change, not once for each namespace."""
    worked_out = []
    original = hosts.hosts_text

    def count(lines: Sequence[tuple[str, Sequence[str]]]) -> str:
        worked_out.append(lines)
        return original(lines)

    monkeypatch.setattr(hosts, "hosts_text", count)
    bridge = netns.add_bridge("br0", "10.0.0.254/24")
    for number in range(20):
        each = netns.add_namespace(f"n{number}")
        bridge.attach(each, f"10.0.0.{number + 1}/24")
        each.popen(["sleep", "600"])
    assert len(worked_out) < 5 * 20
    for name, other in (("n0", "n19"), ("n19", "n0")):
        found = netns[name].run(["getent", "hosts", other]).stdout.split()
        assert found == [f"10.0.0.{int(other[1:]) + 1}", other]

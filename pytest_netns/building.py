"""From a topology's values to the lab's namespaces: every decision was made by the topology, this only carries it out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from pytest_netns.topology.parts import MasqueradeSpec, PortForwardSpec, RouteSpec, VethEnd

if TYPE_CHECKING:
    from pytest_netns.lab import Lab
    from pytest_netns.topology import Topology

Part = TypeVar("Part", RouteSpec, MasqueradeSpec, PortForwardSpec)


def build(lab: Lab, topology: Topology) -> None:
    """Add all of a topology to a lab; its namespaces may be there already, bare."""
    plan = topology.assigned()
    for name in plan.namespace_names:
        if name not in lab:
            lab.add_namespace(name)
    masquerades, port_forwards = _by_namespace(plan.masquerades), _by_namespace(plan.port_forwards)
    nat = dict.fromkeys([*masquerades, *port_forwards])
    for spec in plan.namespaces:
        namespace = lab[spec.name]
        if spec.forwarding and spec.name not in nat:  # NAT makes a router of it anyway
            namespace.enable_forwarding()
        if spec.resolver:
            namespace.resolver = spec.resolver
        for hostname in spec.hostnames:
            lab.add_hostname(hostname, namespace)
    for bridge_spec in plan.bridges:
        bridge = lab.add_bridge(
            bridge_spec.name, bridge_spec.addresses, namespace=lab[bridge_spec.namespace], mtu=bridge_spec.mtu
        )
        for port in bridge_spec.ports:
            bridge.attach(lab[port.namespace], port.addresses, port.name, mtu=port.mtu, mac=port.mac)
    for veth in plan.veths:
        a, b = veth.ends
        lab._connect(
            (lab[a.namespace], lab[b.namespace]),
            (a.addresses, b.addresses),
            (_named(a), _named(b)),
            (a.mtu, b.mtu),
            (a.mac, b.mac),
        )
    for spec in plan.namespaces:
        for name, value in spec.sysctls:  # after the interfaces, since some are settings of theirs
            lab[spec.name].sysctl(name, value)
    for name, routes in _by_namespace(plan.routes).items():
        namespace = lab[name]
        requests = [namespace._route(route.destination, route.via, route.dev, route.metric) for route in routes]
        namespace._netlink.request(*requests)
    for name in nat:
        namespace = lab[name]
        namespace._add_nat(
            [namespace._masquerade(rule.source, rule.out) for rule in masquerades.get(name, [])],
            [namespace._port_forward(rule.port, rule.to, rule.protocol) for rule in port_forwards.get(name, [])],
        )
    for spec in plan.namespaces:
        if spec.nft:
            lab[spec.name].nft(spec.nft)


def _by_namespace(parts: Iterable[Part]) -> dict[str, list[Part]]:
    """The parts of each namespace, in their order."""
    found: dict[str, list[Part]] = {}
    for part in parts:
        found.setdefault(part.namespace, []).append(part)
    return found


def _named(end: VethEnd) -> str:
    assert end.name is not None  # an assigned topology names every interface
    return end.name

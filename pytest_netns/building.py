"""From a topology's values to the lab's namespaces: every decision was made by the topology, this only carries it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_netns.lab import Lab
    from pytest_netns.topology import Topology, VethEnd


def build(lab: Lab, topology: Topology) -> None:
    """Add all of a topology to a lab; its namespaces may be there already, bare."""
    plan = topology.assigned()
    for name in plan.namespace_names:
        if name not in lab:
            lab.add_namespace(name)
    for spec in plan.namespaces:
        namespace = lab[spec.name]
        if spec.forwarding:
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
    for route in plan.routes:
        lab[route.namespace].add_route(route.destination, via=route.via, dev=route.dev, metric=route.metric)
    for masquerade in plan.masquerades:
        lab[masquerade.namespace].masquerade(masquerade.source, out=masquerade.out)
    for forward in plan.port_forwards:
        lab[forward.namespace].forward_port(forward.port, to=forward.to, protocol=forward.protocol)
    for spec in plan.namespaces:
        if spec.nft:
            lab[spec.name].nft(spec.nft)


def _named(end: VethEnd) -> str:
    assert end.name is not None  # an assigned topology names every interface
    return end.name

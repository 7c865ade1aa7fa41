"""Build a topology in a lab: the topology has made every decision, this module only carries it out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from pytest_netns.kernel.netlink.rtroutes import RouteInfo, add_route
from pytest_netns.lab import making
from pytest_netns.lab.connecting import End
from pytest_netns.lab.routes import RouteOptions, additions
from pytest_netns.lab.veth_pair import join
from pytest_netns.parts.gateway.forward import PortForwardSpec
from pytest_netns.parts.gateway.masquerade import MasqueradeSpec
from pytest_netns.parts.links.ends import InterfaceSpec
from pytest_netns.parts.routes import RouteSpec
from pytest_netns.values.naming import bridge_side_name

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab
    from pytest_netns.topology import Topology

Part = TypeVar("Part", RouteSpec, MasqueradeSpec, PortForwardSpec)


def build(lab: Lab, topology: Topology) -> None:
    """Add all of a topology to a lab; its namespaces may already exist, without interfaces."""
    plan = topology.assigned()
    for link in plan.links:
        making.check_options(link.kind, dict(link.options))
    for name in plan.namespace_names:
        if name not in lab:
            lab.add_namespace(name)
    nat = {rule.namespace for rule in plan.masquerades} | {rule.namespace for rule in plan.port_forwards}
    for spec in plan.namespaces:
        namespace = lab[spec.name]
        if spec.private or spec.files:
            namespace.files.add(spec.private, spec.files)
        if spec.hostname:
            lab.names.set_hostname(spec.name, spec.hostname)
        if spec.forwarding and spec.name not in nat:  # NAT enables forwarding anyway
            namespace.enable_forwarding()
        if spec.resolver:
            namespace.resolver = spec.resolver
        for hostname in spec.hostnames:
            lab.add_hostname(hostname, namespace)
    _connect(lab, plan)
    _add_links(lab, plan)
    for spec in plan.namespaces:
        for name, value in spec.sysctls:  # after the interfaces, since some belong to interfaces
            lab[spec.name].sysctl(name, value)
    _route(lab, plan)
    for spec in plan.namespaces:
        if spec.nft:
            lab[spec.name].nft(spec.nft)


def _connect(lab: Lab, plan: Topology) -> None:
    """Create the bridges and veth pairs."""
    ends = [
        *(port for bridge in plan.bridges for port in bridge.ports),
        *(end for veth in plan.veths for end in veth.ends),
    ]
    given: dict[str, set[str]] = {}  # the topology's names, which default names of bridge ports must not take
    for end in ends:
        given.setdefault(end.namespace, set()).add(_named(end))
    for spec in plan.bridges:
        home = lab[spec.namespace]
        bridge = lab.add_bridge(spec.name, spec.addresses, namespace=home, mtu=spec.mtu)
        taken = set(home.links.names) | given.get(spec.namespace, set())
        for port in spec.ports:
            side = bridge_side_name(port.namespace, taken)
            taken.add(side)
            inside = lab[port.namespace].links
            join(
                End(home.links, side, mtu=port.mtu),
                End(inside, _named(port), port.addresses, port.mtu, port.mac),
                (port.impairment, port.impairment),
                bridge=bridge.link,
            )
        if spec.ports:
            home.links.settle(bridge.link)
            home.links.wait_link_local(bridge.link)
    for veth in plan.veths:
        a, b = (End(lab[end.namespace].links, _named(end), end.addresses, end.mtu, end.mac) for end in veth.ends)
        join(a, b, (veth.ends[0].impairment, veth.ends[1].impairment))


def _add_links(lab: Lab, plan: Topology) -> None:
    """Create the interfaces of other kinds, in order."""
    for link in plan.links:
        lab[link.namespace].add_interface(
            link.name,
            kind=link.kind,
            link=link.link,
            master=link.master,
            addresses=link.addresses,
            mtu=link.mtu,
            mac=link.mac,
            **dict(link.options),
        )


def _route(lab: Lab, plan: Topology) -> None:
    """Add each namespace's routes in one batch, and its masquerades and port forwards together."""
    for name, routes in _by_namespace(plan.routes).items():
        namespace = lab[name]
        infos: list[RouteInfo] = []
        for route in routes:
            index = 0 if route.dev is None else namespace.links.find(route.dev).index
            options = RouteOptions(route.metric, route.table, route.type, route.source, route.onlink)
            infos += additions(namespace.links, route.destination, route.gateways, index, options)
        namespace.links.change(*map(add_route, infos))
    masquerades, port_forwards = _by_namespace(plan.masquerades), _by_namespace(plan.port_forwards)
    for name in dict.fromkeys([*masquerades, *port_forwards]):
        namespace = lab[name]
        namespace.gateway.add([*masquerades.get(name, []), *port_forwards.get(name, [])])
    for nat in plan.nats:
        lab[nat.namespace].gateway.nat(nat)
    for snat in plan.snats:
        lab[snat.namespace].gateway.snat(snat)
    for pair in plan.one_to_one:
        lab[pair.namespace].gateway.one_to_one(pair)
    for firewall in plan.firewalls:
        lab[firewall.namespace].gateway.firewall(firewall)


def _by_namespace(parts: Iterable[Part]) -> dict[str, list[Part]]:
    """The parts of each namespace, in order."""
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.namespace, []).append(part)
    return groups


def _named(end: InterfaceSpec) -> str:
    assert end.name is not None  # an assigned topology names every interface
    return end.name

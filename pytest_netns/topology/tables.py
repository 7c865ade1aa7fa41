"""All parts of a topology, one tuple for each kind: the list to add a new kind to.

The metadata of each field (`Key`) gives its TOML key, its kind of value and its purpose; reading, writing, checking and
the JSON Schema all use that. A part parses the values it can: invalid values are kept, for `Topology` to report them all
together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_netns.parts import keys
from pytest_netns.parts.gateway.firewall import FirewallSpec
from pytest_netns.parts.gateway.forward import PortForwardSpec
from pytest_netns.parts.gateway.masquerade import MasqueradeSpec
from pytest_netns.parts.gateway.nat import NatSpec
from pytest_netns.parts.gateway.snat import OneToOneSpec, SnatSpec
from pytest_netns.parts.keys import Part, many, one
from pytest_netns.parts.links.bridge import BridgeSpec
from pytest_netns.parts.links.other import LinkSpec
from pytest_netns.parts.links.veth import VethSpec
from pytest_netns.parts.namespace import NamespaceSpec
from pytest_netns.parts.routes import RouteSpec


@dataclass(frozen=True, init=False)
class Tables(Part):
    """All parts of a topology, one tuple per kind, unchecked; see `Topology`."""

    allow_overlap: bool = field(
        metadata=one("allow_overlap", keys.FLAG, "Whether subnets of different segments may overlap.", False)
    )
    namespaces: tuple[NamespaceSpec, ...] = field(
        metadata=many("namespaces", NamespaceSpec, "Namespaces; others are created when they are mentioned.")
    )
    bridges: tuple[BridgeSpec, ...] = field(metadata=many("bridges", BridgeSpec, "Bridges, each with its ports."))
    veths: tuple[VethSpec, ...] = field(metadata=many("veths", VethSpec, "Veth pairs."))
    links: tuple[LinkSpec, ...] = field(
        metadata=many("interfaces", LinkSpec, "Interfaces of other kinds: VLANs, tunnels, bonds ...")
    )
    routes: tuple[RouteSpec, ...] = field(metadata=many("routes", RouteSpec, "Routes."))
    masquerades: tuple[MasqueradeSpec, ...] = field(
        metadata=many("masquerades", MasqueradeSpec, "Networks behind a router's own address.")
    )
    port_forwards: tuple[PortForwardSpec, ...] = field(
        metadata=many("port_forwards", PortForwardSpec, "Forwarded ports.")
    )
    nats: tuple[NatSpec, ...] = field(metadata=many("nats", NatSpec, "NAT of devices."))
    snats: tuple[SnatSpec, ...] = field(metadata=many("snats", SnatSpec, "Source NAT."))
    one_to_one: tuple[OneToOneSpec, ...] = field(
        metadata=many("one_to_one", OneToOneSpec, "One-to-one NAT of addresses or networks.")
    )
    firewalls: tuple[FirewallSpec, ...] = field(metadata=many("firewalls", FirewallSpec, "Firewalls, each with rules."))

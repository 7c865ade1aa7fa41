"""All parts of a topology, one tuple for each kind: the list to add a new kind to.

Each field says in its metadata (`Key`) what it is called in TOML, what it may hold, and what it is for; reading, writing,
checking and the JSON Schema all follow from that. A part takes what it is given and parses what it can: a mistake is
left as it is, for `Topology` to report together with all the others.
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
        metadata=many("namespaces", NamespaceSpec, "Namespaces; others are made on mention.")
    )
    bridges: tuple[BridgeSpec, ...] = field(metadata=many("bridges", BridgeSpec, "Bridges, each with its ports."))
    veths: tuple[VethSpec, ...] = field(metadata=many("veths", VethSpec, "Veth pairs."))
    links: tuple[LinkSpec, ...] = field(
        metadata=many("interfaces", LinkSpec, "Interfaces of other kinds: VLANs, tunnels, bonds ...")
    )
    routes: tuple[RouteSpec, ...] = field(metadata=many("routes", RouteSpec, "Routes."))
    masquerades: tuple[MasqueradeSpec, ...] = field(
        metadata=many("masquerades", MasqueradeSpec, "Networks hidden behind a router.")
    )
    port_forwards: tuple[PortForwardSpec, ...] = field(
        metadata=many("port_forwards", PortForwardSpec, "Ports that lead elsewhere.")
    )
    nats: tuple[NatSpec, ...] = field(metadata=many("nats", NatSpec, "NAT as devices have it."))
    snats: tuple[SnatSpec, ...] = field(metadata=many("snats", SnatSpec, "Sources that become other addresses."))
    one_to_one: tuple[OneToOneSpec, ...] = field(
        metadata=many("one_to_one", OneToOneSpec, "Outer addresses or networks that stand for inner ones.")
    )
    firewalls: tuple[FirewallSpec, ...] = field(metadata=many("firewalls", FirewallSpec, "Firewalls, each with rules."))

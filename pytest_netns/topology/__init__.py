"""Topology: a network as a plain value in Python or TOML, validated as a whole before the kernel is touched."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.parts.gateway.firewall import FirewallRuleSpec, FirewallSpec
from pytest_netns.parts.gateway.forward import PortForwardSpec
from pytest_netns.parts.gateway.masquerade import MasqueradeSpec
from pytest_netns.parts.gateway.nat import NatSpec
from pytest_netns.parts.gateway.snat import OneToOneSpec, SnatSpec
from pytest_netns.parts.keys import as_many
from pytest_netns.parts.links.bridge import BridgeSpec, PortSpec
from pytest_netns.parts.links.other import LinkSpec
from pytest_netns.parts.links.veth import VethEnd, VethSpec
from pytest_netns.parts.namespace import NamespaceSpec
from pytest_netns.parts.routes import RouteSpec
from pytest_netns.topology import toml
from pytest_netns.topology.assigning import assigned_parts
from pytest_netns.topology.check import find_problems
from pytest_netns.topology.plan import Plan, PlannedInterface, make_plan, resolve
from pytest_netns.topology.segments import links_of, names_of, segments_of
from pytest_netns.topology.tables import Tables
from pytest_netns.values import IPNetwork, Ports, Target, parse_service_ports

__all__ = [
    "BridgeSpec",
    "FirewallRuleSpec",
    "FirewallSpec",
    "LinkSpec",
    "MasqueradeSpec",
    "NamespaceSpec",
    "NatSpec",
    "OneToOneSpec",
    "PICTURES",
    "PortForwardSpec",
    "PortSpec",
    "RouteSpec",
    "SnatSpec",
    "Topology",
    "VethEnd",
    "VethSpec",
]

DEFAULT_SUBNET = "192.168.15.0/24"


@dataclass(frozen=True, init=False)
class Topology(Tables):
    """A network: namespaces, links, routes, NAT and firewalls.

    Namespaces that bridges and veth pairs mention need no declaration.

    Attributes:
        namespaces: namespaces with settings.
        bridges: bridges, each with its ports.
        veths: veth pairs.
        links: interfaces of other kinds, ``[[interfaces]]`` in TOML.
        routes: routes.
        masquerades: networks behind a router's own address.
        port_forwards: forwarded ports.
        nats: NAT of devices.
        snats: source NAT.
        one_to_one: one-to-one NAT of addresses or networks.
        firewalls: firewalls, each with its rules.
        allow_overlap: whether two segments may have the same network.

    Raises:
        InvalidTopologyError: with every mistake in its ``problems``, each as ``KEY PATH: MISTAKE``.
    """

    def __init__(
        self,
        namespaces: Iterable[NamespaceSpec] = (),
        bridges: Iterable[BridgeSpec] = (),
        *,
        veths: Iterable[VethSpec] = (),
        links: Iterable[LinkSpec] = (),
        routes: Iterable[RouteSpec] = (),
        masquerades: Iterable[MasqueradeSpec] = (),
        port_forwards: Iterable[PortForwardSpec] = (),
        nats: Iterable[NatSpec] = (),
        snats: Iterable[SnatSpec] = (),
        one_to_one: Iterable[OneToOneSpec] = (),
        firewalls: Iterable[FirewallSpec] = (),
        allow_overlap: bool = False,
    ) -> None:
        self._fill(
            namespaces=namespaces,
            bridges=bridges,
            veths=veths,
            links=links,
            routes=routes,
            masquerades=masquerades,
            port_forwards=port_forwards,
            nats=nats,
            snats=snats,
            one_to_one=one_to_one,
            firewalls=firewalls,
            allow_overlap=allow_overlap,
        )
        _refuse(find_problems(self))

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Topology:
        """A topology from a TOML file (UTF-8).

        Raises:
            InvalidTopologyError: with every mistake in its ``problems``, each as ``FILE: KEY PATH: MISTAKE``.
            OSError: the file cannot be read.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            _refuse([f"not valid UTF-8: {error}"], os.fspath(path))
            raise
        return cls.loads(text, os.fspath(path))

    @classmethod
    def loads(cls, text: str, source: str = "<string>") -> Topology:
        """A topology from TOML text.

        Args:
            text: the text.
            source: the name of the file, for messages.

        Raises:
            InvalidTopologyError: with every mistake in its ``problems``, each as ``SOURCE: KEY PATH: MISTAKE``.
        """
        arguments, problems = toml.read(text)
        topology = None
        try:
            topology = cls(**arguments)
        except InvalidTopologyError as error:
            problems += error.problems
        _refuse(problems, source)
        assert topology is not None
        return topology

    def dumps(self) -> str:
        """This topology as TOML text, which `loads` parses to an equal one."""
        return toml.write(self)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """The JSON Schema (draft 2020-12) of a topology in TOML."""
        return toml.json_schema()

    @classmethod
    def inline(
        cls,
        namespaces: Iterable[str],
        *,
        subnet: str | IPNetwork | None = DEFAULT_SUBNET,
        subnet6: str | IPNetwork | None = None,
        masquerade: bool = False,
        forward: Mapping[int | str | range | Ports, str | Target | Iterable[str | Target]] | None = None,
    ) -> Topology:
        """A simple topology: namespaces on a bridge ``v-net-0`` in ``host``, which is their gateway.

        Args:
            namespaces: names of the namespaces; they get .1, .2 ... in order.
            subnet: their IPv4 network, in which the host is .254; None for none.
            subnet6: their IPv6 network; None for none.
            masquerade: whether the host masquerades their packets.
            forward: the host's forwarded ports, such as ``8080``, ``"udp/53"`` or ``"5000-5010"``, with their targets, such
                as ``"blue:80"``.
        """
        problems: list[str] = []
        forwards: list[PortForwardSpec] = []
        for key, to in (forward or {}).items():
            try:
                protocol, port = parse_service_ports(key)
            except InvalidTopologyError as error:
                problems.append(f"forward: {error}")
            else:
                forwards.append(PortForwardSpec("host", port, to, protocol=protocol))
        ports = [PortSpec(name) for name in as_many(namespaces)]
        topology = None
        try:
            topology = cls(
                namespaces=[NamespaceSpec("host", forwarding=True)],
                bridges=[BridgeSpec("v-net-0", ports=ports, subnet=subnet, subnet6=subnet6, gateway=True)],
                masquerades=[MasqueradeSpec("host", each) for each in (subnet, subnet6) if each and masquerade],
                port_forwards=forwards,
            )
        except InvalidTopologyError as error:
            problems += error.problems
        _refuse(problems)
        assert topology is not None
        return topology

    @functools.cached_property
    def namespace_names(self) -> tuple[str, ...]:
        """All namespaces: the declared ones, then those that are only mentioned, in order of mention."""
        referring: list[Any] = [
            *self.routes,
            *self.masquerades,
            *self.port_forwards,
            *self.nats,
            *self.snats,
            *self.one_to_one,
            *self.firewalls,
        ]
        return tuple(dict.fromkeys([*names_of(self), *(each.namespace for each in referring)]))

    @property
    def interfaces(self) -> tuple[PlannedInterface, ...]:
        """All planned interfaces, including the bridges' ends of ports, with their final names and addresses."""
        return tuple(self._plan().interfaces)

    def resolve_gateway(self, route: RouteSpec) -> tuple[RouteSpec, ...]:
        """Resolve a route's gateway to an address.

        Returns:
            The route; two (IPv4 and IPv6) for a default route via a namespace that is a neighbour in both.

        Raises:
            InvalidTopologyError: the namespace is not a neighbour, or has several addresses there.
        """
        return tuple(resolve(route, self._plan()))

    def assigned(self) -> Topology:
        """The same network with all defaults filled in: names, addresses, MTUs and default routes."""
        return self._assigned

    @functools.cached_property
    def _assigned(self) -> Topology:
        return self._with(**assigned_parts(self, self._plan()))

    def _with(self, **parts: object) -> Topology:
        """The same network with other parts, which are known to be valid; checking takes longer than all else here."""
        made = object.__new__(Topology)
        Topology._fill(made, **{name: parts.get(name, getattr(self, name)) for name in self.keys()})
        return made

    def draw(self, format: str = "text") -> str:
        """Draw this network.

        Args:
            format: ``"text"``, ``"mermaid"`` or ``"svg"``.
        """
        from pytest_netns.drawing import Sketch, draw

        return draw(Sketch.from_topology(self), format)

    def _plan(self) -> Plan:
        return make_plan(segments_of(self), links_of(self))


def _refuse(problems: list[str], source: str = "") -> None:
    if problems:
        listed = [f"{source}: {problem}" if source else problem for problem in problems]
        number = "1 mistake" if len(listed) == 1 else f"{len(listed)} mistakes"
        raise InvalidTopologyError(f"cannot use this topology: {number}:\n  " + "\n  ".join(listed), problems=listed)


_PAIR = Topology(
    veths=[
        VethSpec(
            [
                VethEnd("red", name="veth-red", address="192.168.15.1/24"),
                VethEnd("blue", name="veth-blue", address="192.168.15.2/24"),
            ]
        )
    ]
)
_LAN = Topology(
    namespaces=[NamespaceSpec("host", forwarding=True)],
    bridges=[
        BridgeSpec(
            "v-net-0",
            address="192.168.15.5/24",
            ports=[
                PortSpec("red", name="veth-red", address="192.168.15.1/24"),
                PortSpec("blue", name="veth-blue", address="192.168.15.2/24"),
            ],
        )
    ],
    routes=[RouteSpec(name, "default", via="192.168.15.5") for name in ("red", "blue")],
)
_NAT = replace(
    _LAN,
    veths=(
        VethSpec(
            [
                VethEnd("outside", name="eth0", address="192.168.1.3/24"),
                VethEnd("host", name="eth0", address="192.168.1.2/24"),
            ]
        ),
    ),
    masquerades=(MasqueradeSpec("host", "192.168.15.0/24", out="eth0"),),
)

# The ready-made pictures, by their names in the marker.
PICTURES: Final[dict[str, Topology]] = {"pair": _PAIR, "lan": _LAN, "nat": _NAT}

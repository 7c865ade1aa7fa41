"""The parts a topology is made of: frozen dataclasses, one per kind of thing.

Each field says in its metadata (`Key`) what it is called in TOML, what it may hold, and what it is for; reading,
writing, checking and the JSON Schema all follow from that. A part takes what it is given and parses what it can: a mistake
is left as it is, for `Topology` to report together with all the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pytest_netns.topology import kinds as kinds
from pytest_netns.topology.kinds import REQUIRED, Part, as_many, many, one
from pytest_netns.values import IPAddress, IPInterface, IPNetwork, Target

InterfaceAddresses: TypeAlias = str | IPInterface | Iterable[str | IPInterface]


@dataclass(frozen=True, init=False)
class NamespaceSpec(Part):
    """A namespace.

    Attributes:
        name: its name, and the host name inside.
        forwarding: whether it forwards packets between its interfaces (IPv4 and IPv6).
        sysctls: kernel settings as (name, value) pairs, in the order given.
        hostnames: further names under which the other namespaces find it.
        nft: nft ruleset text, applied once the network is built.
        resolver: the name servers its commands use.
    """

    name: str = field(
        metadata=one("name", kinds.NAMESPACE, "The namespace's name, and the host name inside.", REQUIRED)
    )
    forwarding: bool = field(
        metadata=one("forwarding", kinds.FLAG, "Whether it forwards packets between its interfaces.", False)
    )
    sysctls: tuple[tuple[str, str], ...] = field(
        metadata=one("sysctls", kinds.SYSCTLS, "Kernel settings below 'net'.", ())
    )
    hostnames: tuple[str, ...] = field(metadata=many("hostnames", kinds.HOSTNAME, "Further names that lead here."))
    nft: str = field(metadata=one("nft", kinds.NFT, "nft ruleset text, applied once the network is built.", ""))
    resolver: tuple[IPAddress, ...] = field(
        metadata=many("resolver", kinds.ADDRESS, "The name servers its commands use.")
    )

    def __init__(
        self,
        name: str,
        *,
        forwarding: bool = False,
        sysctls: Mapping[str, str | int] | Iterable[tuple[str, str | int]] = (),
        hostnames: str | Iterable[str] = (),
        nft: str = "",
        resolver: str | IPAddress | Iterable[str | IPAddress] = (),
    ) -> None:
        self._fill(name=name, forwarding=forwarding, sysctls=sysctls, hostnames=hostnames, nft=nft, resolver=resolver)


@dataclass(frozen=True, init=False)
class InterfaceSpec(Part):
    """An interface in a namespace: a bridge's port or the end of a veth pair.

    Attributes:
        namespace: the name of the namespace.
        addresses: of the interface, IPv4 and IPv6; ``address`` and ``addresses`` both take one or several.
        name: the interface's name; None for ``veth-NAMESPACE``.
        mtu: in bytes; None for that of the bridge or pair.
        mac: MAC address; None for the kernel's choice.
    """

    namespace: str = field(metadata=one("namespace", kinds.NAMESPACE, "The namespace the interface is in.", REQUIRED))
    addresses: tuple[IPInterface, ...] = field(
        metadata=many("address", kinds.INTERFACE_ADDRESS, "Its address or addresses.")
    )
    name: str | None = field(
        metadata=one("name", kinds.INTERFACE_NAME, "The interface's name; 'veth-NAMESPACE' unless given.")
    )
    mtu: int | None = field(metadata=one("mtu", kinds.MTU, "MTU in bytes; that of the bridge or pair unless given."))
    mac: str | None = field(metadata=one("mac", kinds.MAC, "MAC address; the kernel's choice unless given."))

    def __init__(
        self,
        namespace: str,
        *,
        address: InterfaceAddresses | None = None,
        addresses: InterfaceAddresses = (),
        name: str | None = None,
        mtu: int | None = None,
        mac: str | None = None,
    ) -> None:
        self._fill(namespace=namespace, addresses=as_many(address) + as_many(addresses), name=name, mtu=mtu, mac=mac)


class PortSpec(InterfaceSpec):
    """A bridge's port: a namespace, and the interface inside it that leads to the bridge; see `InterfaceSpec`."""


class VethEnd(InterfaceSpec):
    """One end of a veth pair; see `InterfaceSpec`."""


@dataclass(frozen=True, init=False)
class BridgeSpec(Part):
    """A bridge, and the namespaces plugged into it.

    With ``subnet`` (``subnet6`` for IPv6) whoever has no address of that family gets one: the ports .1, .2 ... in
    order, the bridge .254 (the 254th address: ``fd00::fe``) or the last one of a smaller subnet; addresses given are skipped.

    Attributes:
        name: the bridge's name.
        namespace: where it is.
        addresses: of the bridge itself; ``address`` and ``addresses`` both take one or several.
        ports: the namespaces plugged in.
        subnet: IPv4 network to take addresses from; None for none.
        subnet6: IPv6 network to take addresses from; None for none.
        gateway: whether the namespaces plugged in get a default route via the bridge.
        mtu: in bytes, of the bridge and of the ports without one; None for 1500.
    """

    name: str = field(metadata=one("name", kinds.INTERFACE_NAME, "The bridge's name.", REQUIRED))
    namespace: str = field(
        metadata=one("namespace", kinds.NAMESPACE, "The namespace it is in; 'host' unless given.", "host")
    )
    addresses: tuple[IPInterface, ...] = field(
        metadata=many("address", kinds.INTERFACE_ADDRESS, "The bridge's own address.")
    )
    subnet: IPNetwork | None = field(
        metadata=one("subnet", kinds.SUBNET4, "IPv4 network whose addresses go to those without one.")
    )
    subnet6: IPNetwork | None = field(
        metadata=one("subnet6", kinds.SUBNET6, "IPv6 network whose addresses go to those without one.")
    )
    gateway: bool = field(
        metadata=one("gateway", kinds.FLAG, "Whether the ports get a default route via the bridge.", False)
    )
    mtu: int | None = field(metadata=one("mtu", kinds.MTU, "MTU in bytes, of the bridge and of ports without one."))
    ports: tuple[PortSpec, ...] = field(metadata=many("ports", PortSpec, "The namespaces plugged in."))

    def __init__(
        self,
        name: str,
        *,
        namespace: str = "host",
        address: InterfaceAddresses | None = None,
        addresses: InterfaceAddresses = (),
        ports: Iterable[PortSpec] = (),
        subnet: str | IPNetwork | None = None,
        subnet6: str | IPNetwork | None = None,
        gateway: bool = False,
        mtu: int | None = None,
    ) -> None:
        own = as_many(address) + as_many(addresses)
        self._fill(
            name=name, namespace=namespace, addresses=own, ports=ports,
            subnet=subnet, subnet6=subnet6, gateway=gateway, mtu=mtu,
        )  # fmt: skip


@dataclass(frozen=True, init=False)
class VethSpec(Part):
    """A veth pair: a cable between two namespaces.

    Attributes:
        ends: its two ends.
        subnet: IPv4 network whose first addresses go to the ends without one; None for none.
        subnet6: the same for IPv6.
        mtu: in bytes, of the ends without one; None for 1500.
    """

    subnet: IPNetwork | None = field(
        metadata=one("subnet", kinds.SUBNET4, "IPv4 network whose first addresses go to ends without one.")
    )
    subnet6: IPNetwork | None = field(
        metadata=one("subnet6", kinds.SUBNET6, "IPv6 network whose first addresses go to ends without one.")
    )
    mtu: int | None = field(metadata=one("mtu", kinds.MTU, "MTU in bytes, of ends without one."))
    ends: tuple[VethEnd, VethEnd] = field(metadata=many("ends", VethEnd, "The two ends.", REQUIRED))

    def __init__(
        self,
        ends: Iterable[VethEnd],
        *,
        subnet: str | IPNetwork | None = None,
        subnet6: str | IPNetwork | None = None,
        mtu: int | None = None,
    ) -> None:
        self._fill(ends=ends, subnet=subnet, subnet6=subnet6, mtu=mtu)


@dataclass(frozen=True, init=False)
class RouteSpec(Part):
    """A route.

    Attributes:
        namespace: where it is.
        destination: a network, or ``"default"``, which is of the gateway's family.
        via: the gateway: an address, or the name of a neighbouring namespace; None for none.
        dev: the name of the interface; None for the kernel's choice.
        metric: priority, 0 to 4294967295, lower is preferred; None for the kernel's choice.
    """

    namespace: str = field(metadata=one("namespace", kinds.NAMESPACE, "The namespace the route is in.", REQUIRED))
    destination: IPNetwork | Literal["default"] = field(
        metadata=one("destination", kinds.DESTINATION, "A network.", REQUIRED)
    )
    via: IPAddress | str | None = field(
        metadata=one("via", kinds.GATEWAY, "The gateway: an address, or a neighbouring namespace.")
    )
    dev: str | None = field(metadata=one("dev", kinds.DEVICE, "The name of the interface."))
    metric: int | None = field(metadata=one("metric", kinds.METRIC, "Priority; the lower one is preferred."))

    def __init__(
        self,
        namespace: str,
        destination: str | IPNetwork | IPAddress,
        *,
        via: str | IPAddress | None = None,
        dev: str | None = None,
        metric: int | None = None,
    ) -> None:
        self._fill(namespace=namespace, destination=destination, via=via, dev=dev, metric=metric)


@dataclass(frozen=True, init=False)
class MasqueradeSpec(Part):
    """Packets from ``source`` leave a namespace under that namespace's own address.

    Attributes:
        namespace: the router that hides them.
        source: the network that is hidden.
        out: the interface they leave by; None for any.
    """

    namespace: str = field(metadata=one("namespace", kinds.NAMESPACE, "The router that hides them.", REQUIRED))
    source: IPNetwork = field(metadata=one("source", kinds.NETWORK, "The network that is hidden.", REQUIRED))
    out: str | None = field(
        metadata=one("out", kinds.DEVICE, "The name of the interface they leave by; any unless given.")
    )

    def __init__(self, namespace: str, source: str | IPNetwork | IPAddress, *, out: str | None = None) -> None:
        self._fill(namespace=namespace, source=source, out=out)


@dataclass(frozen=True, init=False)
class PortForwardSpec(Part):
    """A port of a namespace that leads elsewhere.

    Attributes:
        namespace: whose port it is.
        port: its number.
        to: where it leads: an address or namespace, and a port (None for the same number).
        protocol: ``"tcp"`` or ``"udp"``.
    """

    namespace: str = field(metadata=one("namespace", kinds.NAMESPACE, "The namespace whose port it is.", REQUIRED))
    port: int = field(metadata=one("port", kinds.PORT, "The port's number.", REQUIRED))
    to: Target = field(
        metadata=one("to", kinds.TARGET, "Where it leads: 'ADDRESS:PORT' or 'NAMESPACE:PORT'.", REQUIRED)
    )
    protocol: str = field(metadata=one("protocol", kinds.PROTOCOL, "'tcp' unless given.", "tcp"))

    def __init__(self, namespace: str, port: int, to: str | Target | IPAddress, *, protocol: str = "tcp") -> None:
        self._fill(namespace=namespace, port=port, to=to, protocol=protocol)


@dataclass(frozen=True, init=False)
class Tables(Part):
    """All parts of a topology, one tuple per kind, unchecked; see `Topology`."""

    allow_overlap: bool = field(
        metadata=one("allow_overlap", kinds.FLAG, "Whether subnets of different segments may overlap.", False)
    )
    namespaces: tuple[NamespaceSpec, ...] = field(
        metadata=many("namespaces", NamespaceSpec, "Namespaces; others are made on mention.")
    )
    bridges: tuple[BridgeSpec, ...] = field(metadata=many("bridges", BridgeSpec, "Bridges, each with its ports."))
    veths: tuple[VethSpec, ...] = field(metadata=many("veths", VethSpec, "Veth pairs."))
    routes: tuple[RouteSpec, ...] = field(metadata=many("routes", RouteSpec, "Routes."))
    masquerades: tuple[MasqueradeSpec, ...] = field(
        metadata=many("masquerades", MasqueradeSpec, "Networks hidden behind a router.")
    )
    port_forwards: tuple[PortForwardSpec, ...] = field(
        metadata=many("port_forwards", PortForwardSpec, "Ports that lead elsewhere.")
    )

"""Port forwards (DNAT); pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pytest_netns.parts import keys
from pytest_netns.parts.gateway import nftext
from pytest_netns.parts.gateway.nftext import (
    COUNTED,
    FORWARDS,
    Flow,
    Forwarded,
    MappedPort,
    RuleText,
    Translation,
    family,
    network,
    numbered_map,
    of_family,
    shifted_map,
)
from pytest_netns.parts.keys import REQUIRED, Part, many, one
from pytest_netns.values import IPAddress, IPNetwork, PortRange, Ports, Target, as_range
from pytest_netns.values.notes import Note


@dataclass(frozen=True, init=False)
class PortForwardSpec(Part):
    """A forwarded port of a namespace, or a range of ports.

    Attributes:
        namespace: the namespace whose port is forwarded.
        port: its number, or a range.
        to: the targets: addresses or namespaces, and their ports (None for the same). Connections alternate between several.
        protocol: ``"tcp"``, ``"udp"``, or both.
        source: only for clients in this network; None for all.
        address: only at this address of the namespace; None for all.
    """

    namespace: str = field(
        metadata=one("namespace", keys.NAMESPACE, "The namespace whose port is forwarded.", REQUIRED)
    )
    port: Ports = field(metadata=one("port", keys.PORTS, "The port's number, or a range: '5000-5010'.", REQUIRED))
    to: tuple[Target, ...] = field(
        metadata=many(
            "to",
            keys.TARGET,
            "The target: 'ADDRESS:PORT' or 'NAMESPACE:PORT'; connections alternate between several.",
            REQUIRED,
        )
    )
    protocol: tuple[str, ...] = field(
        metadata=many("protocol", keys.PROTOCOL, "'tcp' (the default), 'udp' or both.", ("tcp",))
    )
    source: IPNetwork | None = field(metadata=one("source", keys.NETWORK, "Only for clients in this network."))
    address: IPAddress | None = field(metadata=one("address", keys.ADDRESS, "Only at this address of the namespace."))

    def __init__(
        self,
        namespace: str,
        port: int | str | Ports | range,
        to: str | Target | IPAddress | Iterable[str | Target | IPAddress],
        *,
        protocol: str | Iterable[str] = "tcp",
        source: str | IPNetwork | IPAddress | None = None,
        address: str | IPAddress | None = None,
    ) -> None:
        self._fill(namespace=namespace, port=port, to=to, protocol=protocol, source=source, address=address)

    def notes(self) -> Iterator[Note]:
        """The note of the forwarded port."""
        yield Note(self.namespace, describe(self))


def describe(spec: PortForwardSpec) -> str:
    """The description of a port forward in drawings: ``tcp 8080 → blue:80``."""
    text = f"{'+'.join(spec.protocol)} {spec.port}"
    text += f" at {spec.address}" if spec.address is not None else ""
    text += f" from {network(spec.source)}" if spec.source is not None else ""
    return f"{text} → {', '.join(map(str, spec.to))}"


def mistakes(spec: PortForwardSpec) -> Iterator[tuple[str, str]]:
    """The mistakes in a single port forward, each with its key."""
    if spec.protocol and _plain(spec) is not None:
        return  # the usual case, checked first since there may be thousands
    ports = as_range(spec.port)
    if not spec.to:
        yield "to", "is missing; write 'ADDRESS:PORT' or 'NAMESPACE:PORT'"
    if not spec.protocol:
        yield "protocol", "is missing; write 'tcp', 'udp' or both"
    for target in spec.to:
        if spec.to.count(target) > 1:
            yield (
                "to",
                f"cannot forward port {spec.port} to {str(target)!r} twice: connections alternate between targets anyway",
            )
            return
        size = ports.size if target.port is None else as_range(target.port).size
        if size != ports.size:
            yield (
                "to",
                f"cannot forward ports {ports} to {str(target)!r}: {_count(ports.size)} to {_count(size)}; give a range as long as {ports}",
            )
            return
    firsts = {_first(target, ports) for target in spec.to}
    if ports.size > 1 and len(firsts) > 1:
        listing = " and ".join(repr(str(target)) for target in spec.to)
        yield (
            "to",
            f"cannot forward ports {ports} to {listing} in turn: their port ranges differ; give all the same one",
        )
    versions = {value.version for value in (spec.source, spec.address) if value is not None}
    if len(versions) > 1:
        yield "source", f"cannot use '{spec.source}' with address '{spec.address}': they are of different families"


def _plain(spec: PortForwardSpec) -> tuple[int, int] | None:
    """The port and its target's port, if a single port is forwarded to a single target without restrictions."""
    if len(spec.to) != 1 or spec.source is not None or spec.address is not None:
        return None
    port = spec.port
    target = port if spec.to[0].port is None else spec.to[0].port
    return (port, target) if isinstance(port, int) and isinstance(target, int) else None


def conflicts(a: PortForwardSpec, b: PortForwardSpec) -> bool:
    """Whether both port forwards match the same connection."""
    return (
        not set(a.protocol).isdisjoint(b.protocol)
        and as_range(a.port).overlaps(as_range(b.port))
        and (a.address is None or b.address is None or a.address == b.address)
        and (a.source is None or b.source is None or a.source.overlaps(b.source))
    )


def contradiction(spec: PortForwardSpec, other: PortForwardSpec) -> str:
    """The message about two conflicting port forwards; names both."""
    plural = "s" if as_range(spec.port).size > 1 else ""
    return (
        f"cannot forward {'+'.join(spec.protocol)} port{plural} {spec.port} of namespace {spec.namespace!r} to "
        f"{', '.join(map(str, spec.to))}: it is already forwarded to {', '.join(map(str, other.to))} ({describe(other)})"
    )


@dataclass(frozen=True)
class PortForwarding(Translation):
    """A port forward with resolved addresses.

    Attributes:
        spec: the user's specification.
        addresses: the addresses of each target, at most one of each family.
        mapped: map elements, one for each family and protocol, if a single port is forwarded to a single target without restrictions.
    """

    spec: PortForwardSpec
    addresses: tuple[tuple[IPAddress, ...], ...]
    mapped: Sequence[MappedPort] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mapped", self._mapped())

    @property
    def description(self) -> str:
        """Its description in drawings."""
        return describe(self.spec)

    @property
    def from_loopback(self) -> bool:
        """Connections from the gateway itself are forwarded too."""
        return True

    @property
    def for_datagrams(self) -> bool:
        """Whether it is for UDP."""
        return "udp" in self.spec.protocol

    def _mapped(self) -> list[MappedPort]:
        if (ports := _plain(self.spec)) is None:
            return []
        port, target = ports
        return [
            MappedPort(protocol, address.version, port, address, target)
            for address in self.addresses[0]
            for protocol in self.spec.protocol
        ]

    def rules(self) -> Iterator[RuleText]:
        """A translating and a counting rule for each family and protocol; none if it is `mapped`."""
        if self.mapped:
            return
        ports = as_range(self.spec.port)
        for version, protocol, targets in self._targets(ports):
            match = f"{of_family(version)} {protocol} dport {ports}{self._limits(version, '')}"
            yield RuleText(FORWARDS, f"{match} {_dnat(version, protocol, ports, targets)}")
            counted = f"meta l4proto {protocol} ct original proto-dst {ports}{self._limits(version, 'ct original ')}"
            yield RuleText(COUNTED, f"{of_family(version)} {counted} ct status dnat counter")

    def plain(self) -> Sequence[tuple[str, Forwarded]]:
        """The same rules as values, each with its chain; none if they are too complex for that."""
        ports = as_range(self.spec.port)
        limits: list[tuple[str, IPNetwork]] = []
        if self.spec.source is not None:
            limits.append(("saddr", self.spec.source))
        if self.spec.address is not None:
            limits.append(("daddr", ipaddress.ip_network(self.spec.address)))
        rules: list[tuple[str, Forwarded]] = []
        for version, protocol, ((address, first), *others) in self._targets(ports):
            if others or (ports.size > 1 and first != ports.first):
                return []
            match = (version, protocol, (ports.first, ports.last), tuple(limits))
            rules.append((FORWARDS, Forwarded(*match, (address, None if first == ports.first else first))))
            rules.append((COUNTED, Forwarded(*match, None)))
        return rules

    def _targets(self, ports: PortRange) -> Iterator[tuple[int, str, list[tuple[IPAddress, int]]]]:
        """IP version, protocol and targets."""
        wanted = {value.version for value in (self.spec.source, self.spec.address) if value is not None}
        for version in (4, 6):
            if not wanted <= {version}:
                continue
            targets = [
                (address, _first(target, ports))
                for target, addresses in zip(self.spec.to, self.addresses, strict=True)
                for address in addresses
                if address.version == version
            ]
            if targets:
                for protocol in self.spec.protocol:
                    yield version, protocol, targets

    @property
    def has_common_version(self) -> bool:
        """Whether source, address and targets have a common IP version."""
        return bool(self.mapped) or any(True for _ in self._targets(as_range(self.spec.port)))

    def _limits(self, version: int, of: str) -> str:
        ip = family(version)
        text = f" {of}{ip} saddr {network(self.spec.source)}" if self.spec.source is not None else ""
        return text + (f" {of}{ip} daddr {self.spec.address}" if self.spec.address is not None else "")

    def concerns(self, flow: Flow) -> bool:
        """Whether a tracked connection is to one of the ports."""
        ports = as_range(self.spec.port)
        return (
            flow.to_gateway
            and flow.protocol in self.spec.protocol
            and ports.first <= flow.port <= ports.last
            and (self.spec.source is None or flow.source in self.spec.source)
            and (self.spec.address is None or flow.destination == self.spec.address)
        )


def example() -> str:
    """The doctor's test: the nft text of a port forward, with the tables it needs."""
    addresses = (ipaddress.ip_address("192.168.15.2"), ipaddress.ip_address("fd00::2"))
    ports = PortForwarding(PortForwardSpec("gw", 8080, "blue:80"), (addresses,)).mapped
    maps = "".join(nftext.ports_map(each.protocol, each.version) for each in ports)
    return nftext.frame() + nftext.destinations() + maps + "".join(each.text("probe") for each in ports)


def _dnat(version: int, protocol: str, ports: PortRange, targets: Sequence[tuple[IPAddress, int]]) -> str:
    ip = family(version)
    firsts = {first for _, first in targets}
    if len(firsts) > 1:  # a single port, to different ports of several addresses
        pairs = numbered_map(f"{address} . {first}" for address, first in targets)
        return f"dnat {ip} addr . port to numgen inc mod {len(targets)} map {pairs}"
    address = _bracketed(targets[0][0])
    if len(targets) > 1:
        address = f"numgen inc mod {len(targets)} map {numbered_map(each for each, _ in targets)}"
    (first,) = firsts
    if first == ports.first:
        return f"dnat {ip} to {address if len(targets) > 1 else targets[0][0]}"
    if ports.size == 1:
        return f"dnat {ip} to {address}:{first}"
    return f"dnat {ip} to {address} : {protocol} dport map {shifted_map(ports, first)}"


def _bracketed(address: IPAddress) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def _first(target: Target, ports: PortRange) -> int:
    return ports.first if target.port is None else as_range(target.port).first


def _count(size: int) -> str:
    return "1 port" if size == 1 else f"{size} ports"

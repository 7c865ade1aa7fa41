"""Network address and port translation as devices have it, in the words of RFC 4787 (UDP) and RFC 5382 (TCP); pure.

A kind of NAT is data: how it maps inner endpoints to outer ports, whom it lets in through them, and for how long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.parts import keys
from pytest_netns.parts.gateway.nftext import Flow, family, network, numbered_map, of_family
from pytest_netns.parts.keys import REQUIRED, Kind, Part, one
from pytest_netns.values import IPAddress, IPNetwork, PortRange, Ports, as_range, parse_choice
from pytest_netns.values.notes import Note

ENDPOINT_INDEPENDENT = "endpoint-independent"
ADDRESS_DEPENDENT = "address-dependent"
ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
BEHAVIOURS = (ENDPOINT_INDEPENDENT, ADDRESS_DEPENDENT, ADDRESS_AND_PORT_DEPENDENT)

DEFAULT_PORTS = PortRange(1024, 65535)
_TCP_TIMEOUT = 240  # seconds, for connections that are being opened or closed: RFC 5382 section 5
_MAX_TIMEOUT = 86400
_PRIORITY_IN, _PRIORITY_OUT = -99, 99  # after port forwards, before masquerades
_SIZE = 65535
_SHORT = 1024  # ports


@dataclass(frozen=True)
class NatKind:
    """How a kind of device translates.

    Attributes:
        mapping: which packets of an inner endpoint leave from one outer port: those to anywhere, to one address, or to one
            address and port (RFC 4787 section 4.1).
        filtering: from whom packets to that port come in: from anyone, from addresses that it has sent to, or from
            addresses and ports that it has sent to (RFC 4787 section 5).
        hairpin: whether inner hosts reach each other by their outer addresses (RFC 4787 section 6).
        ports: the outer ports.
        timeout: seconds after which an unused UDP mapping ends (RFC 4787 section 4.3).
    """

    mapping: str
    filtering: str
    hairpin: bool = False
    ports: PortRange = DEFAULT_PORTS
    timeout: int = 120


KINDS: dict[str, NatKind] = {
    # Linux-based home routers: port-restricted, with loopback to the outer address.
    "home": NatKind(ENDPOINT_INDEPENDENT, ADDRESS_AND_PORT_DEPENDENT, hairpin=True),
    # The names of RFC 3489 section 5.
    "full-cone": NatKind(ENDPOINT_INDEPENDENT, ENDPOINT_INDEPENDENT),
    "address-restricted": NatKind(ENDPOINT_INDEPENDENT, ADDRESS_DEPENDENT),
    "port-restricted": NatKind(ENDPOINT_INDEPENDENT, ADDRESS_AND_PORT_DEPENDENT),
    "symmetric": NatKind(ADDRESS_AND_PORT_DEPENDENT, ADDRESS_AND_PORT_DEPENDENT),
    # What RFC 6888 asks of carriers.
    "carrier": NatKind(ENDPOINT_INDEPENDENT, ENDPOINT_INDEPENDENT, hairpin=True, timeout=300),
}


def _behaviour(what: str) -> Kind:
    return Kind(
        lambda value: parse_choice(value, BEHAVIOURS, what), {"enum": list(BEHAVIOURS), "examples": [BEHAVIOURS[0]]}
    )


def _parse_timeout(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_TIMEOUT:
        return value
    raise InvalidTopologyError(
        f"cannot use {value!r} as timeout: it is a whole number of seconds from 1 to {_MAX_TIMEOUT}"
    )


_LIKE = Kind(lambda value: parse_choice(value, KINDS, "kind of NAT"), {"enum": list(KINDS), "examples": ["home"]})
_TIMEOUT = Kind(_parse_timeout, {"type": "integer", "minimum": 1, "maximum": _MAX_TIMEOUT, "examples": [120]})


@dataclass(frozen=True, init=False)
class NatSpec(Part):
    """NAT as devices have it: a network behind a router's outer address.

    Attributes:
        namespace: the router.
        source: the network behind it.
        out: the interface of its outer side.
        like: a usual device; what else is given goes before what that device does.
        mapping: ``"endpoint-independent"``, ``"address-dependent"`` or ``"address-and-port-dependent"``.
        filtering: one of the same words.
        hairpin: whether inner hosts reach each other by their outer addresses.
        ports: the outer ports, a range.
        timeout: seconds after which an unused UDP mapping ends.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The router.", REQUIRED))
    source: IPNetwork = field(metadata=one("source", keys.NETWORK, "The network behind it.", REQUIRED))
    out: str = field(metadata=one("out", keys.DEVICE, "The interface of its outer side.", REQUIRED))
    like: str | None = field(metadata=one("like", _LIKE, "A usual device."))
    mapping: str | None = field(
        metadata=one("mapping", _behaviour("mapping"), "Which packets leave from one outer port (RFC 4787).")
    )
    filtering: str | None = field(
        metadata=one("filtering", _behaviour("filtering"), "From whom packets to it come in (RFC 4787).")
    )
    hairpin: bool | None = field(
        metadata=one("hairpin", keys.FLAG, "Whether inner hosts reach each other by outer addresses.")
    )
    ports: Ports | None = field(metadata=one("ports", keys.PORTS, "The outer ports: '1024-65535' unless given."))
    timeout: int | None = field(metadata=one("timeout", _TIMEOUT, "Seconds after which an unused UDP mapping ends."))

    def __init__(
        self,
        namespace: str,
        source: str | IPNetwork | IPAddress,
        out: str,
        *,
        like: str | None = None,
        mapping: str | None = None,
        filtering: str | None = None,
        hairpin: bool | None = None,
        ports: str | Ports | range | tuple[int, int] | None = None,
        timeout: int | None = None,
    ) -> None:
        self._fill(
            namespace=namespace,
            source=source,
            out=out,
            like=like,
            mapping=mapping,
            filtering=filtering,
            hairpin=hairpin,
            ports=ports,
            timeout=timeout,
        )

    def notes(self) -> Iterator[Note]:
        """Whom it hides, and how."""
        yield Note(self.namespace, Natting(self.source, self.out, kind_of(self)).words)


def kind_of(spec: NatSpec) -> NatKind:
    """The kind of NAT that a spec asks for: the device's, or a home router's, with what else is given."""
    base = KINDS[spec.like or "home"]
    return NatKind(
        spec.mapping or base.mapping,
        spec.filtering or base.filtering,
        base.hairpin if spec.hairpin is None else spec.hairpin,
        base.ports if spec.ports is None else as_range(spec.ports),
        spec.timeout or base.timeout,
    )


def mistakes(spec: NatSpec) -> Iterator[tuple[str, str]]:
    """What is wrong with a NAT by itself: each with the key it is about."""
    if spec.like is not None:
        base = KINDS[spec.like]
        for key in ("mapping", "filtering"):
            given, usual = getattr(spec, key), getattr(base, key)
            if given not in (None, usual):
                yield (
                    key,
                    f"cannot use {given!r} as {key} of NAT like {spec.like!r}: it is {usual!r} there; leave out one of them",
                )


def contradiction(spec: NatSpec, other: NatSpec) -> str:
    """What to say of two NATs whose networks overlap without being the same."""
    return (
        f"cannot translate {spec.source} out {spec.out} of namespace {spec.namespace!r}: {other.source} out {other.out} "
        "is translated already, and they overlap; give one of them"
    )


def conflicts(a: NatSpec, b: NatSpec) -> bool:
    """Whether packets could be meant by both, and neither replaces the other."""
    return a.out == b.out and a.source != b.source and a.source.overlaps(b.source)


@dataclass(frozen=True)
class Natting:
    """A network behind an outer address, as a kind of device does it.

    Attributes:
        source: the network behind it.
        out: the interface of its outer side.
        kind: how.
    """

    source: IPNetwork
    out: str
    kind: NatKind
    for_datagrams: ClassVar[bool] = True
    from_loopback: ClassVar[bool] = False

    @property
    def words(self) -> str:
        """What a drawing says of it."""
        kind = self.kind
        return (
            f"NAT {self.source} out {self.out}: {kind.mapping} mapping, {kind.filtering} filtering"
            + (", hairpin" if kind.hairpin else "")
            + (f", ports {kind.ports}" if kind.ports != DEFAULT_PORTS else "")
        )

    def concerns(self, flow: Flow) -> bool:
        """Whether a tracked connection comes from the network, or is translated on its way in."""
        return flow.source in self.source or flow.has_other_destination

    def sets(self) -> list[str]:
        """Its maps and sets that hold what it has learnt, each with the word for what it is."""
        return ["map outer", *(f"{'map' if ':' in kind else 'set'} {name}" for name, kind, _ in self._learnt())]

    def table(self, name: str, comment: str) -> str:
        """The nft text of its table.

        Args:
            name: the table's.
            comment: what every rule has.
        """
        marking = []
        if self._marked:
            hook = f"filter hook postrouting priority {_PRIORITY_OUT - 1}"
            marking.append(self._chain("marking", hook, self._marking()))
        chains = [
            self._chain("timeouts", f"filter hook prerouting priority {_PRIORITY_IN - 1}", self._timeouts(name)),
            self._chain("incoming", f"nat hook prerouting priority {_PRIORITY_IN}", self._incoming()),
            self._chain("unasked", f"filter hook prerouting priority {_PRIORITY_IN + 9}", self._unasked()),
            *marking,
            self._chain("outgoing", f"nat hook postrouting priority {_PRIORITY_OUT}", self._outgoing()),
            self._chain("learning", f"filter hook postrouting priority {_PRIORITY_OUT + 3}", self._learning()),
        ]
        rules = "\n".join(chain.replace(" ;;", f" {comment}") for chain in chains)
        return f"table inet {name} {{\n{self._timeout_object()}{''.join(self._declare())}{rules}\n}}\n"

    @staticmethod
    def _chain(name: str, hook: str, rules: Iterator[str]) -> str:
        lines = "".join(f"    {rule} ;;\n" for rule in rules)
        return f"  chain {name} {{\n    type {hook}; policy accept;\n{lines}  }}"

    # -- what it learns -------------------------------------------------------------------------------

    @property
    def _ip(self) -> str:
        return family(self.source.version)

    @property
    def _address(self) -> str:
        return f"ipv{self.source.version}_addr"

    def _learnt(self) -> Iterator[tuple[str, str, str]]:
        """Its maps and sets: name, type, and protocol.

        In nft 1.0.6 neither side of a map that is written to may be longer than 16 bytes: it crashes, or writes nonsense.
        """
        for protocol in ("udp", "tcp"):
            inner = "mark" if self._marked else f"inet_service . {self._address}"
            yield f"inside_{protocol}", f"{inner} : inet_service", protocol
            yield f"outside_{protocol}", f"inet_service : {self._address}", protocol
            yield f"outside_ports_{protocol}", "inet_service : inet_service", protocol
            yield f"pairs_{protocol}", f"inet_service . {self._address} . inet_service", protocol
            yield f"peers_{protocol}", f"inet_service . {self._address}", protocol

    def _declare(self) -> Iterator[str]:
        """inside: outer ports by inner endpoints; outside: the other way; pairs: both; peers: who may come in."""
        yield f"  map outer {{ type nf_proto : {self._address}; flags dynamic; size 1; }}\n"
        for name, kind, protocol in self._learnt():
            what = "map" if ":" in kind else "set"
            options = f"flags dynamic,timeout; size {_SIZE}; timeout {self._seconds(protocol)}s;"
            yield f"  {what} {name} {{ type {kind}; {options} }}\n"

    def _seconds(self, protocol: str) -> int:
        return self.kind.timeout if protocol == "udp" else max(self.kind.timeout, _TCP_TIMEOUT)

    def _learning(self) -> Iterator[str]:
        """After translation: which outer port an inner endpoint has got."""
        ip, kind = self._ip, self.kind
        shared = kind.mapping == kind.filtering == ADDRESS_AND_PORT_DEPENDENT
        leaving = f'{of_family(self.source.version)} oifname "{self.out}"'
        yield f"{leaving} ct direction original ct original {ip} saddr {network(self.source)} ct status snat counter"
        for direction in ("original", "reply"):
            # A connection that began outside: the inner end is the source of its replies.
            address, port = f"ct {direction} {ip} saddr", f"ct {direction} proto-src"
            mine = f"{leaving} ct direction {direction} {address} {network(self.source)}"
            for protocol in ("udp", "tcp"):
                match, outer = f"{mine} meta l4proto {protocol}", f"{protocol} sport"
                pair = f"{outer} . {address} . {port}"
                if not shared:
                    # The port belongs to another inner endpoint: the next packet tries another port.
                    yield f"{match} ct state new {pair} != @pairs_{protocol} {outer} @outside_{protocol} drop"
                    yield f"{match} update @pairs_{protocol} {{ {pair} }}"
                if kind.mapping != ADDRESS_AND_PORT_DEPENDENT:
                    inner = "meta mark" if self._marked else f"{port} . {address}"
                    yield f"{match} update @inside_{protocol} {{ {inner} : {outer} }}"
                yield f"{match} update @outside_{protocol} {{ {outer} : {address} }}"
                yield f"{match} update @outside_ports_{protocol} {{ {outer} : {port} }}"
                if kind.filtering == ADDRESS_DEPENDENT:
                    yield f"{match} update @peers_{protocol} {{ {outer} . {ip} daddr }}"
        if kind.hairpin:
            yield f"{leaving} ct status snat update @outer {{ meta nfproto : {ip} saddr }}"

    # -- what it does ---------------------------------------------------------------------------------

    def _outgoing(self) -> Iterator[str]:
        """The port an endpoint has already, or its own where that is free, else another one."""
        ip, kind = self._ip, self.kind
        leaving = f'oifname "{self.out}" {ip} saddr {network(self.source)}'
        for protocol in ("udp", "tcp"):
            match = f"{leaving} meta l4proto {protocol}"
            sport = f"{protocol} sport"
            if kind.mapping != ADDRESS_AND_PORT_DEPENDENT:
                yield f"{match} masquerade to :{self._endpoint(protocol)} map @inside_{protocol}"
            if kind.mapping == ENDPOINT_INDEPENDENT:
                yield f"{match} {sport} {kind.ports} {sport} != @outside_{protocol} masquerade"
            yield f"{match} masquerade to :{self._another_port()}"
        yield f"{leaving} masquerade"
        if kind.hairpin:
            back = f"{ip} saddr {network(self.source)} {ip} daddr {network(self.source)} ct status dnat"
            if kind.mapping == ENDPOINT_INDEPENDENT:
                for protocol in ("udp", "tcp"):
                    mapped = f"{self._endpoint(protocol)} map @inside_{protocol}"
                    yield f"{back} meta l4proto {protocol} snat {ip} to meta nfproto map @outer : {mapped}"
            yield f"{back} masquerade"

    def _endpoint(self, protocol: str) -> str:
        """An inner endpoint, on its way out."""
        return "meta mark" if self._marked else f"{protocol} sport . {self._ip} saddr"

    @property
    def _marked(self) -> bool:
        return self.kind.mapping == ADDRESS_DEPENDENT or (
            self.kind.mapping == ENDPOINT_INDEPENDENT and self.source.version == 6
        )

    def _another_port(self) -> str:
        """A port for an endpoint that has none: of a short range, which may be nearly used up, in turn."""
        ports = self.kind.ports
        if self.kind.mapping == ADDRESS_AND_PORT_DEPENDENT or ports.size > _SHORT:
            return f"{ports} fully-random"
        return f"numgen inc mod {ports.size} map {numbered_map(range(ports.first, ports.last + 1))}"

    def _marking(self) -> Iterator[str]:
        """A number for each inner endpoint, or for it and where it sends to: in one of 16 bytes at most, see `_learnt`."""
        ip = self._ip
        to = f" . {ip} daddr" if self.kind.mapping == ADDRESS_DEPENDENT else ""
        for protocol in ("udp", "tcp"):
            endpoint = f"{ip} saddr . {protocol} sport{to}"
            yield (
                f"{ip} saddr {network(self.source)} meta l4proto {protocol} "
                f"meta mark set jhash {endpoint} mod {2**32 - 1}"
            )

    def _incoming(self) -> Iterator[str]:
        """Packets to a port that is mapped, from those who may."""
        ip = self._ip
        for protocol in ("udp", "tcp"):
            port = f"{protocol} dport"
            lead = f"dnat {ip} to {port} map @outside_{protocol} : {port} map @outside_ports_{protocol}"
            match = f"{of_family(self.source.version)} fib daddr type local meta l4proto {protocol}"
            if self.kind.filtering == ENDPOINT_INDEPENDENT:
                yield f'iifname "{self.out}" {match} {lead}'
            elif self.kind.filtering == ADDRESS_DEPENDENT:
                yield f'iifname "{self.out}" {match} {port} . {ip} saddr @peers_{protocol} {lead}'
            if self.kind.hairpin:
                yield f'iifname != "{self.out}" {ip} saddr {network(self.source)} {match} {lead}'

    def _unasked(self) -> Iterator[str]:
        """What nobody has asked for is dropped before it takes the port in the table of connections."""
        ip = self._ip
        new = f'{of_family(self.source.version)} iifname "{self.out}" ct state new'
        yield f"{new} ct status dnat accept"
        for protocol in ("udp", "tcp"):
            yield f"{new} {protocol} dport @outside_{protocol} drop"
        # Nor does it take a port that may be mapped later on, unless the gateway itself waits for it.
        yield f"{new} fib daddr type local udp dport {self.kind.ports} socket wildcard {{ 0, 1 }} accept"
        yield f"{new} fib daddr type local udp dport {self.kind.ports} drop"
        yield f"{new} {ip} daddr {network(self.source)} drop"

    def _timeout_object(self) -> str:
        seconds = self.kind.timeout
        l3 = "ip" if self.source.version == 4 else "ip6"
        return (
            f"  ct timeout unused_udp {{ protocol udp; l3proto {l3}; "
            f"policy = {{ unreplied : {seconds}, replied : {seconds} }}; }}\n"
        )

    def _timeouts(self, table: str) -> Iterator[str]:
        ip = self._ip
        yield f'{ip} saddr {network(self.source)} meta l4proto udp ct timeout set "unused_udp"'
        yield f'iifname "{self.out}" {of_family(self.source.version)} meta l4proto udp ct timeout set "unused_udp"'

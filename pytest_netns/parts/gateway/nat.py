"""Network address and port translation of devices, in the terms of RFC 4787 (UDP) and RFC 5382 (TCP); pure.

A kind of NAT is data: how it maps inner endpoints to outer ports, which packets it lets in, and for how long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.parts import keys
from pytest_netns.parts.keys import REQUIRED, Kind, Part, one
from pytest_netns.values import IPAddress, IPNetwork, PortRange, Ports, as_range, parse_choice
from pytest_netns.values.notes import Note

ENDPOINT_INDEPENDENT = "endpoint-independent"
ADDRESS_DEPENDENT = "address-dependent"
ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
BEHAVIOURS = (ENDPOINT_INDEPENDENT, ADDRESS_DEPENDENT, ADDRESS_AND_PORT_DEPENDENT)

DEFAULT_PORTS = PortRange(1024, 65535)
_MAX_TIMEOUT = 86400


@dataclass(frozen=True)
class NatKind:
    """How a kind of device translates.

    Attributes:
        mapping: which packets of an inner endpoint share an outer port: those to any destination, to one address, or to
            one address and port (RFC 4787 section 4.1).
        filtering: the sources whose packets to that port are let in: any, addresses that the endpoint has sent to, or
            addresses and ports that it has sent to (RFC 4787 section 5).
        hairpin: whether inner hosts reach each other at their outer addresses (RFC 4787 section 6).
        ports: the outer ports.
        timeout: seconds after which an unused UDP mapping expires (RFC 4787 section 4.3).
    """

    mapping: str
    filtering: str
    hairpin: bool = False
    ports: PortRange = DEFAULT_PORTS
    timeout: int = 120


KINDS: dict[str, NatKind] = {
    # Linux-based home routers: port-restricted, with hairpin.
    "home": NatKind(ENDPOINT_INDEPENDENT, ADDRESS_AND_PORT_DEPENDENT, hairpin=True),
    # The names of RFC 3489 section 5.
    "full-cone": NatKind(ENDPOINT_INDEPENDENT, ENDPOINT_INDEPENDENT),
    "address-restricted": NatKind(ENDPOINT_INDEPENDENT, ADDRESS_DEPENDENT),
    "port-restricted": NatKind(ENDPOINT_INDEPENDENT, ADDRESS_AND_PORT_DEPENDENT),
    "symmetric": NatKind(ADDRESS_AND_PORT_DEPENDENT, ADDRESS_AND_PORT_DEPENDENT),
    # The requirements of RFC 6888 for carriers.
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
        f"cannot use {value!r} as timeout: use a whole number of seconds from 1 to {_MAX_TIMEOUT}"
    )


_LIKE = Kind(lambda value: parse_choice(value, KINDS, "kind of NAT"), {"enum": list(KINDS), "examples": ["home"]})
_TIMEOUT = Kind(_parse_timeout, {"type": "integer", "minimum": 1, "maximum": _MAX_TIMEOUT, "examples": [120]})


@dataclass(frozen=True, init=False)
class NatSpec(Part):
    """The NAT of a device: a network behind a router's outer address.

    Attributes:
        namespace: the router.
        source: the network behind it.
        out: the interface of its outer side.
        like: a common kind of device; other values given override its own.
        mapping: ``"endpoint-independent"``, ``"address-dependent"`` or ``"address-and-port-dependent"``.
        filtering: one of the same values.
        hairpin: whether inner hosts reach each other at their outer addresses.
        ports: the outer ports, a range.
        timeout: seconds after which an unused UDP mapping expires.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The router.", REQUIRED))
    source: IPNetwork = field(metadata=one("source", keys.NETWORK, "The network behind it.", REQUIRED))
    out: str = field(metadata=one("out", keys.DEVICE, "The interface of its outer side.", REQUIRED))
    like: str | None = field(metadata=one("like", _LIKE, "A common kind of device."))
    mapping: str | None = field(
        metadata=one("mapping", _behaviour("mapping"), "Which packets share an outer port (RFC 4787).")
    )
    filtering: str | None = field(
        metadata=one("filtering", _behaviour("filtering"), "The sources whose packets to it are let in (RFC 4787).")
    )
    hairpin: bool | None = field(
        metadata=one("hairpin", keys.FLAG, "Whether inner hosts reach each other at outer addresses.")
    )
    ports: Ports | None = field(metadata=one("ports", keys.PORTS, "The outer ports; default '1024-65535'."))
    timeout: int | None = field(metadata=one("timeout", _TIMEOUT, "Seconds after which an unused UDP mapping expires."))

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
        """The note of the NAT."""
        yield Note(self.namespace, describe(self.source, self.out, kind_of(self)))


def kind_of(spec: NatSpec) -> NatKind:
    """The kind of NAT of a spec: that of its device (default: a home router), with the given values."""
    base = KINDS[spec.like or "home"]
    return NatKind(
        spec.mapping or base.mapping,
        spec.filtering or base.filtering,
        base.hairpin if spec.hairpin is None else spec.hairpin,
        base.ports if spec.ports is None else as_range(spec.ports),
        spec.timeout or base.timeout,
    )


def mistakes(spec: NatSpec) -> Iterator[tuple[str, str]]:
    """The mistakes in a single NAT, each with its key."""
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
    """The message about two NATs whose networks overlap without being equal."""
    return (
        f"cannot translate {spec.source} out {spec.out} of namespace {spec.namespace!r}: {other.source} out {other.out} "
        "is already translated, and they overlap; give only one of them"
    )


def conflicts(a: NatSpec, b: NatSpec) -> bool:
    """Whether both match the same packets, and neither replaces the other."""
    return a.out == b.out and a.source != b.source and a.source.overlaps(b.source)


def describe(source: IPNetwork, out: str, kind: NatKind) -> str:
    """The description of a NAT in drawings."""
    return (
        f"NAT {source} out {out}: {kind.mapping} mapping, {kind.filtering} filtering"
        + (", hairpin" if kind.hairpin else "")
        + (f", ports {kind.ports}" if kind.ports != DEFAULT_PORTS else "")
    )

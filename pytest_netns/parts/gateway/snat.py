"""Address translation: source NAT, one-to-one NAT of addresses and networks, IPv6 prefixes; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_netns.parts import keys
from pytest_netns.parts.gateway.nftext import (
    COUNTED,
    MAPPINGS,
    SNATS,
    Flow,
    RuleText,
    Translation,
    family,
    network,
    out_by,
)
from pytest_netns.parts.keys import REQUIRED, Part, one
from pytest_netns.values import IPAddress, IPNetwork
from pytest_netns.values.notes import Note

_MAX_PREFIX = 64  # the longest prefix that the kernel translates


@dataclass(frozen=True, init=False)
class SnatSpec(Part):
    """Source NAT: packets from ``source`` leave a namespace with the address ``to``.

    Attributes:
        namespace: the router.
        source: an address or network behind it.
        to: their new source address.
        out: the interface they leave by; None for any.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The router.", REQUIRED))
    source: IPNetwork = field(metadata=one("source", keys.NETWORK, "An address or network behind it.", REQUIRED))
    to: IPAddress = field(metadata=one("to", keys.ADDRESS, "Their new source address.", REQUIRED))
    out: str | None = field(metadata=one("out", keys.DEVICE, "The interface they leave by; default any."))

    def __init__(
        self,
        namespace: str,
        source: str | IPNetwork | IPAddress,
        to: str | IPAddress,
        *,
        out: str | None = None,
    ) -> None:
        self._fill(namespace=namespace, source=source, to=to, out=out)

    def notes(self) -> Iterator[Note]:
        """The note of the translation."""
        yield Note(self.namespace, SourceTranslation(self.source, self.to, self.out).description)


@dataclass(frozen=True, init=False)
class OneToOneSpec(Part):
    """One-to-one NAT: an outer address or network is mapped to an inner one, in both directions.

    Attributes:
        namespace: the router between them.
        outer: the address or network used outside.
        inner: the address or network inside, or the name of a namespace.
        out: the interface of the outer side; None for the one whose network contains the outer address.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The router between them.", REQUIRED))
    outer: IPNetwork = field(metadata=one("outer", keys.NETWORK, "The address or network used outside.", REQUIRED))
    inner: IPNetwork | str = field(
        metadata=one("inner", keys.PLACE, "The address, network or namespace inside.", REQUIRED)
    )
    out: str | None = field(metadata=one("out", keys.DEVICE, "The interface of the outer side."))

    def __init__(
        self,
        namespace: str,
        outer: str | IPNetwork | IPAddress,
        inner: str | IPNetwork | IPAddress,
        *,
        out: str | None = None,
    ) -> None:
        self._fill(namespace=namespace, outer=outer, inner=inner, out=out)

    def notes(self) -> Iterator[Note]:
        """The note of the mapping."""
        yield Note(self.namespace, describe(self))


def describe(spec: OneToOneSpec) -> str:
    """The description of a one-to-one NAT in drawings."""
    inner = spec.inner if isinstance(spec.inner, str) else network(spec.inner)
    return f"{network(spec.outer)} ↔ {inner}"


def mistakes(spec: SnatSpec | OneToOneSpec) -> Iterator[tuple[str, str]]:
    """The mistakes in a single SNAT or one-to-one NAT, each with its key."""
    if isinstance(spec, SnatSpec):
        if spec.source.version != spec.to.version:
            yield "to", f"cannot use '{spec.to}' as address of '{spec.source}': they are of different families"
    elif not isinstance(spec.inner, str):
        if spec.inner.version != spec.outer.version:
            yield "inner", f"cannot use '{spec.inner}' as inner side of '{spec.outer}': they are of different families"
        elif spec.inner.prefixlen != spec.outer.prefixlen:
            yield (
                "inner",
                f"cannot use '{spec.inner}' as inner side of '{spec.outer}': write a network with /{spec.outer.prefixlen}",
            )
    elif spec.outer.num_addresses > 1:
        yield "inner", f"cannot use namespace {spec.inner!r} as inner side of a network: write a network"


def prefix_mistakes(inner: IPNetwork, outer: IPNetwork) -> Iterator[tuple[str, str]]:
    """The mistakes in a prefix translation (RFC 6296), each with its argument."""
    if inner.version != 6 or outer.version != 6:
        yield "inner", f"cannot translate '{inner}' to '{outer}': write IPv6 prefixes, such as 'fd00:1::/48'"
    elif inner.prefixlen != outer.prefixlen:
        yield "outer", f"cannot translate '{inner}' to '{outer}': they have different lengths"
    elif inner.prefixlen > _MAX_PREFIX:
        yield "inner", f"cannot translate '{inner}' to '{outer}': a prefix has at most {_MAX_PREFIX} bits"


@dataclass(frozen=True)
class SourceTranslation(Translation):
    """Source NAT: packets from a source leave with another address.

    Attributes:
        source: their source.
        to: their new source address.
        out: the interface they leave by; None for any.
    """

    source: IPNetwork
    to: IPAddress
    out: str | None = None

    @property
    def for_datagrams(self) -> bool:
        """Every protocol."""
        return True

    @property
    def description(self) -> str:
        """Its description in drawings."""
        return f"SNAT {network(self.source)} → {self.to}" + (f" out {self.out}" if self.out else "")

    def rules(self) -> Iterator[RuleText]:
        """A translating and a counting rule."""
        ip, source = family(self.source.version), network(self.source)
        yield RuleText(SNATS, f"{out_by(self.out)}{ip} saddr {source} {ip} daddr != {source} snat {ip} to {self.to}")
        yield RuleText(COUNTED, f"{out_by(self.out)}ct original {ip} saddr {source} {ip} saddr {self.to} counter")

    def concerns(self, flow: Flow) -> bool:
        """Whether a tracked connection comes from the source and leaves it."""
        return flow.source in self.source and flow.destination not in self.source and not flow.to_gateway


@dataclass(frozen=True)
class OneToOne(Translation):
    """One-to-one NAT with the inner side resolved.

    Attributes:
        spec: the user's specification.
        inner: the inner address or network.
        out: the interface of the outer side; None for any.
    """

    spec: OneToOneSpec
    inner: IPNetwork
    out: str | None

    @property
    def for_datagrams(self) -> bool:
        """Every protocol."""
        return True

    @property
    def description(self) -> str:
        """Its description in drawings."""
        return describe(self.spec)

    def rules(self) -> Iterator[RuleText]:
        """A translating and a counting rule for each direction."""
        ip = family(self.inner.version)
        inner, outer = network(self.inner), network(self.spec.outer)
        if self.inner.num_addresses == 1:
            inward, outward = f"dnat {ip} to {inner}", f"snat {ip} to {outer}"
        else:
            inward = f"dnat {ip} prefix to {ip} daddr map {{ {outer} : {inner} }}"
            outward = f"snat {ip} prefix to {ip} saddr map {{ {inner} : {outer} }}"
        yield RuleText(MAPPINGS, f"{ip} daddr {outer} {inward}")
        yield RuleText(SNATS, f"{out_by(self.out)}{ip} saddr {inner} {ip} daddr != {inner} {outward}")
        yield RuleText(COUNTED, f"ct original {ip} daddr {outer} ct status dnat counter")
        yield RuleText(COUNTED, f"{out_by(self.out)}ct original {ip} saddr {inner} ct status snat counter")

    def concerns(self, flow: Flow) -> bool:
        """Whether a tracked connection is to the outer side, or from the inner one."""
        return flow.destination in self.spec.outer or (flow.source in self.inner and not flow.to_gateway)

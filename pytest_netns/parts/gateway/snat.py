"""Addresses exchanged for others: source NAT, one-to-one NAT, networks and prefixes; pure."""

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

_MAX_PREFIX = 64  # of what the kernel exchanges


@dataclass(frozen=True, init=False)
class SnatSpec(Part):
    """Packets from ``source`` leave a namespace under the address ``to``.

    Attributes:
        namespace: the router.
        source: an address or network behind it.
        to: the address they leave under.
        out: the interface they leave by; None for any.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The router.", REQUIRED))
    source: IPNetwork = field(metadata=one("source", keys.NETWORK, "An address or network behind it.", REQUIRED))
    to: IPAddress = field(metadata=one("to", keys.ADDRESS, "The address they leave under.", REQUIRED))
    out: str | None = field(metadata=one("out", keys.DEVICE, "The interface they leave by; any unless given."))

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
        """Whose address becomes which."""
        yield Note(self.namespace, SourceTranslation(self.source, self.to, self.out).words)


@dataclass(frozen=True, init=False)
class OneToOneSpec(Part):
    """An outer address, or network, stands for an inner one, in both directions.

    Attributes:
        namespace: the router between them.
        outer: the address or network that the outside knows.
        inner: the address or network it stands for, or the name of a namespace.
        out: the interface of the outer side; None for the one whose network has the outer address.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The router between them.", REQUIRED))
    outer: IPNetwork = field(
        metadata=one("outer", keys.NETWORK, "The address or network that the outside knows.", REQUIRED)
    )
    inner: IPNetwork | str = field(
        metadata=one("inner", keys.PLACE, "The address, network or namespace it stands for.", REQUIRED)
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
        """Which stands for which."""
        yield Note(self.namespace, words(self))


def words(spec: OneToOneSpec) -> str:
    """What a drawing says of a one-to-one NAT."""
    inner = spec.inner if isinstance(spec.inner, str) else network(spec.inner)
    return f"{network(spec.outer)} ↔ {inner}"


def mistakes(spec: SnatSpec | OneToOneSpec) -> Iterator[tuple[str, str]]:
    """What is wrong with one by itself: each with the key it is about."""
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
    """What is wrong with two prefixes that are to be exchanged (RFC 6296): each with the argument it is about."""
    if inner.version != 6 or outer.version != 6:
        yield "inner", f"cannot exchange '{inner}' for '{outer}': write IPv6 prefixes, such as 'fd00:1::/48'"
    elif inner.prefixlen != outer.prefixlen:
        yield "outer", f"cannot exchange '{inner}' for '{outer}': they are of different lengths"
    elif inner.prefixlen > _MAX_PREFIX:
        yield "inner", f"cannot exchange '{inner}' for '{outer}': a prefix has at most {_MAX_PREFIX} bits"


@dataclass(frozen=True)
class SourceTranslation(Translation):
    """Packets from a source leave under another address.

    Attributes:
        source: where they come from.
        to: the address they leave under.
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
    def words(self) -> str:
        """What a drawing says of it."""
        return f"SNAT {network(self.source)} → {self.to}" + (f" out {self.out}" if self.out else "")

    def rules(self) -> Iterator[RuleText]:
        """One that translates, and one that counts."""
        ip, source = family(self.source.version), network(self.source)
        yield RuleText(SNATS, f"{out_by(self.out)}{ip} saddr {source} {ip} daddr != {source} snat {ip} to {self.to}")
        yield RuleText(COUNTED, f"{out_by(self.out)}ct original {ip} saddr {source} {ip} saddr {self.to} counter")

    def concerns(self, flow: Flow) -> bool:
        """Whether a tracked connection comes from there and leaves."""
        return flow.source in self.source and flow.destination not in self.source and not flow.to_gateway


@dataclass(frozen=True)
class OneToOne(Translation):
    """An outer address or network stands for an inner one.

    Attributes:
        spec: what the user wrote.
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
    def words(self) -> str:
        """What a drawing says of it."""
        return words(self.spec)

    def rules(self) -> Iterator[RuleText]:
        """For each direction one that translates, and one that counts."""
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

"""Masquerade: a network behind a router's own address; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pytest_netns.parts import keys
from pytest_netns.parts.gateway.nftext import (
    COUNTED,
    MASQUERADES,
    Flow,
    Masqueraded,
    RuleText,
    Translation,
    family,
    network,
    out_by,
)
from pytest_netns.parts.keys import REQUIRED, Part, one
from pytest_netns.values import IPAddress, IPNetwork
from pytest_netns.values.notes import Note


@dataclass(frozen=True, init=False)
class MasqueradeSpec(Part):
    """A masquerade: packets from ``source`` leave a namespace with that namespace's own address.

    Attributes:
        namespace: the router.
        source: the network behind it.
        out: the interface they leave by; None for any.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The router.", REQUIRED))
    source: IPNetwork = field(metadata=one("source", keys.NETWORK, "The network behind it.", REQUIRED))
    out: str | None = field(metadata=one("out", keys.DEVICE, "The name of the interface they leave by; default any."))

    def __init__(self, namespace: str, source: str | IPNetwork | IPAddress, *, out: str | None = None) -> None:
        self._fill(namespace=namespace, source=source, out=out)

    def notes(self) -> Iterator[Note]:
        """The note of the masquerade."""
        yield Note(self.namespace, Masquerading(self.source, self.out).description)


@dataclass(frozen=True)
class Masquerading(Translation):
    """A masquerade: packets from a source network get the address of their outgoing interface.

    Attributes:
        source: the network behind the gateway.
        out: the interface they leave by; None for any.
    """

    source: IPNetwork
    out: str | None = None

    @property
    def for_datagrams(self) -> bool:
        """Every protocol."""
        return True

    @property
    def description(self) -> str:
        """Its description in drawings."""
        return f"masquerade {self.source}" + (f" out {self.out}" if self.out else "")

    def rules(self) -> Iterator[RuleText]:
        """A translating and a counting rule."""
        ip, source = family(self.source.version), network(self.source)
        yield RuleText(MASQUERADES, f"{out_by(self.out)}{ip} saddr {source} {ip} daddr != {source} masquerade")
        yield RuleText(
            COUNTED,
            f"{out_by(self.out)}ct original {ip} saddr {source} ct original {ip} daddr != {source} ct status snat counter",
        )

    def plain(self) -> Sequence[tuple[str, Masqueraded]]:
        """The same rules as values."""
        if not self.source.prefixlen:
            return ()
        return (
            (MASQUERADES, Masqueraded(self.source, self.out, counts=False)),
            (COUNTED, Masqueraded(self.source, self.out, counts=True)),
        )

    def concerns(self, flow: Flow) -> bool:
        """Whether a tracked connection comes from the network and leaves it."""
        return flow.source in self.source and flow.destination not in self.source and not flow.to_gateway

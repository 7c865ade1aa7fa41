"""A network hidden behind a router; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_netns.parts import keys
from pytest_netns.parts.gateway.nftext import COUNTED, MASQUERADES, Flow, RuleText, Translation, family, network, out_by
from pytest_netns.parts.keys import REQUIRED, Part, one
from pytest_netns.values import IPAddress, IPNetwork
from pytest_netns.values.notes import Note


@dataclass(frozen=True, init=False)
class MasqueradeSpec(Part):
    """Packets from ``source`` leave a namespace under that namespace's own address.

    Attributes:
        namespace: the router that hides them.
        source: the network that is hidden.
        out: the interface they leave by; None for any.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The router that hides them.", REQUIRED))
    source: IPNetwork = field(metadata=one("source", keys.NETWORK, "The network that is hidden.", REQUIRED))
    out: str | None = field(
        metadata=one("out", keys.DEVICE, "The name of the interface they leave by; any unless given.")
    )

    def __init__(self, namespace: str, source: str | IPNetwork | IPAddress, *, out: str | None = None) -> None:
        self._fill(namespace=namespace, source=source, out=out)

    def notes(self) -> Iterator[Note]:
        """Whom it hides."""
        yield Note(self.namespace, Masquerading(self.source, self.out).words)


@dataclass(frozen=True)
class Masquerading(Translation):
    """Packets from a source network leave with the address of the interface they leave by.

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
    def words(self) -> str:
        """What a drawing says of it."""
        return f"masquerade {self.source}" + (f" out {self.out}" if self.out else "")

    def rules(self) -> Iterator[RuleText]:
        """One that translates, and one that counts."""
        ip, source = family(self.source.version), network(self.source)
        yield RuleText(MASQUERADES, f"{out_by(self.out)}{ip} saddr {source} {ip} daddr != {source} masquerade")
        yield RuleText(
            COUNTED,
            f"{out_by(self.out)}ct original {ip} saddr {source} ct original {ip} daddr != {source} ct status snat counter",
        )

    def concerns(self, flow: Flow) -> bool:
        """Whether a tracked connection comes from the network and leaves it."""
        return flow.source in self.source and flow.destination not in self.source and not flow.to_gateway

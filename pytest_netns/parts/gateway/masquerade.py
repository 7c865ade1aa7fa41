"""A network hidden behind a router; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_netns.parts import keys
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
        yield Note(self.namespace, f"masquerade {self.source}" + (f" out {self.out}" if self.out else ""))

"""A port that leads elsewhere; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_netns.parts import keys
from pytest_netns.parts.keys import REQUIRED, Part, one
from pytest_netns.values import IPAddress, Target
from pytest_netns.values.notes import Note


@dataclass(frozen=True, init=False)
class PortForwardSpec(Part):
    """A port of a namespace that leads elsewhere.

    Attributes:
        namespace: whose port it is.
        port: its number.
        to: where it leads: an address or namespace, and a port (None for the same number).
        protocol: ``"tcp"`` or ``"udp"``.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The namespace whose port it is.", REQUIRED))
    port: int = field(metadata=one("port", keys.PORT, "The port's number.", REQUIRED))
    to: Target = field(metadata=one("to", keys.TARGET, "Where it leads: 'ADDRESS:PORT' or 'NAMESPACE:PORT'.", REQUIRED))
    protocol: str = field(metadata=one("protocol", keys.PROTOCOL, "'tcp' unless given.", "tcp"))

    def __init__(self, namespace: str, port: int, to: str | Target | IPAddress, *, protocol: str = "tcp") -> None:
        self._fill(namespace=namespace, port=port, to=to, protocol=protocol)

    def notes(self) -> Iterator[Note]:
        """Where the port leads."""
        yield Note(self.namespace, f"{self.protocol} {self.port} → {self.to}")

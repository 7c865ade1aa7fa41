"""Notes: lines in drawings and reports besides interfaces, addresses and routes; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Note(NamedTuple):
    """A line about a namespace or interface.

    Attributes:
        namespace: the name of the namespace it is about.
        text: a few words without a full stop, such as ``"masquerade 10.0.0.0/24"`` or ``"delay 20 ms"``.
        interface: the name of the interface it is about; empty for the namespace as a whole.
    """

    namespace: str
    text: str
    interface: str = ""


class HasNotes(Protocol):
    """A source of notes: a part of a topology, a component, a fault in force."""

    def notes(self) -> Iterable[Note]:
        """Its present notes; empty if it changes nothing at the moment."""
        ...

"""Notes: the words for what is in force in a lab, each given by the component or fault that did it."""

from __future__ import annotations

from pytest_netns.values.notes import HasNotes, Note


class Notes:
    """Whatever changes a lab's network and wants to be seen in drawings and reports registers here."""

    __slots__ = ("_sources",)

    def __init__(self) -> None:
        self._sources: list[HasNotes] = []

    def add(self, source: HasNotes) -> None:
        """Have its words shown, until `discard`."""
        self._sources.append(source)

    def discard(self, source: HasNotes) -> None:
        """Show it no more; idempotent."""
        self._sources = [each for each in self._sources if each is not source]

    def by_namespace(self) -> dict[str, tuple[Note, ...]]:
        """The same by the name of the namespace; ``""`` for the network as a whole."""
        found: dict[str, tuple[Note, ...]] = {}
        for note in self.collect():
            found[note.namespace] = (*found.get(note.namespace, ()), note)
        return found

    def collect(self) -> list[Note]:
        """The words of all, in the order in which they registered; what one cannot say becomes words too."""
        found: list[Note] = []
        for source in tuple(self._sources):
            try:
                found += source.notes()
            except Exception as error:  # a report is never a reason for a failure
                found.append(Note("", f"{type(source).__name__} cannot be shown: {type(error).__name__}: {error}"))
        return found

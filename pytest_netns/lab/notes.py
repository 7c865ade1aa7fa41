"""Notes: descriptions of what is in force in a lab, provided by the components and faults themselves."""

from __future__ import annotations

from pytest_netns.values.notes import HasNotes, Note


class Notes:
    """The sources of notes: objects that change a lab's network and are shown in drawings and reports."""

    __slots__ = ("_sources",)

    def __init__(self) -> None:
        self._sources: list[HasNotes] = []

    def add(self, source: HasNotes) -> None:
        """Show the notes of a source, until `discard`."""
        self._sources.append(source)

    def discard(self, source: HasNotes) -> None:
        """Stop showing a source; idempotent."""
        self._sources = [each for each in self._sources if each is not source]

    def by_namespace(self) -> dict[str, tuple[Note, ...]]:
        """The notes by namespace name; ``""`` for the whole network."""
        groups: dict[str, tuple[Note, ...]] = {}
        for note in self.collect():
            groups[note.namespace] = (*groups.get(note.namespace, ()), note)
        return groups

    def collect(self) -> list[Note]:
        """The notes of all sources, in order of registration; an error in a source becomes a note."""
        notes: list[Note] = []
        for source in tuple(self._sources):
            try:
                notes += source.notes()
            except Exception as error:  # a report is never a reason for a failure
                notes.append(Note("", f"{type(source).__name__} cannot be shown: {type(error).__name__}: {error}"))
        return notes

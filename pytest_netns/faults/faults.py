"""The active faults of a lab, so that they can be undone together and shown in reports."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, Self

from pytest_netns.errors import NetnsError
from pytest_netns.values.notes import Note


class Fault(Protocol):
    """An active fault, which can be undone."""

    def heal(self) -> None:
        """Undo it; idempotent."""
        ...


class Healing:
    """Base of faults: a context manager that undoes the fault at the end of its block."""

    __slots__ = ()

    def heal(self) -> None:
        """Undo it; idempotent."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.heal()


class Undo(Healing):
    """A fault carried out elsewhere, with the function that undoes it.

    Args:
        description: its description, such as ``"n1 is frozen"``.
        namespace: the namespace it is shown at; empty for the network as a whole.
        undo: undoes it; called once.
    """

    __slots__ = ("_description", "_faults", "_namespace", "_undo")

    def __init__(self, faults: Faults, namespace: str, description: str, undo: Callable[[], None]) -> None:
        self._faults = faults
        self._namespace = namespace
        self._description = description
        self._undo: Callable[[], None] | None = undo

    def heal(self) -> None:
        """Undo it; idempotent."""
        undo, self._undo = self._undo, None
        if undo is not None:
            self._faults.discard(self)
            undo()

    def notes(self) -> Sequence[Note]:
        """Its notes for drawings and reports."""
        return [Note(self._namespace, self._description)]

    def __repr__(self) -> str:
        place = f"{self._namespace}: " if self._namespace else ""
        return f"<{place}{self._description}{'' if self._undo else ' (healed)'}>"


class Faults:
    """The faults of one lab, in the order in which they were started."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._active: list[Fault] = []
        self._filters: list[Drops] = []
        self._number = 0

    def next_table(self) -> str:
        """A name for the nft tables of a new fault."""
        with self._lock:
            self._number += 1
            return f"netns-fault-{self._number}"

    def add(self, fault: Fault) -> None:
        """Register an active fault, so that `heal` undoes it."""
        with self._lock:
            self._active.append(fault)

    def begin(self, namespace: str, description: str, undo: Callable[[], None]) -> Undo:
        """Register a fault carried out elsewhere; the arguments are those of `Undo`."""
        fault = Undo(self, namespace, description, undo)
        self.add(fault)
        return fault

    def add_filter(self, drops: Drops) -> None:
        """Register a fault that drops packets: captures ask it about each, even after it was undone."""
        with self._lock:
            self._filters.append(drops)

    def discard(self, fault: Fault) -> None:
        """Unregister a fault that has been undone."""
        with self._lock:
            self._active = [each for each in self._active if each is not fault]

    def active(self) -> list[Fault]:
        """The faults that have not been undone."""
        with self._lock:
            return list(self._active)

    def heal(self) -> None:
        """Undo all, the last one first; a failure does not keep the others from being undone."""
        errors: list[Exception] = []
        for fault in reversed(self.active()):
            try:
                fault.heal()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0] if len(errors) == 1 else ExceptionGroup("cannot heal the network", errors)

    def notes(self) -> Iterable[Note]:
        """The notes of active faults, for drawings and reports."""
        for fault in self.active():
            with contextlib.suppress(NetnsError):  # its lab is closed
                yield from getattr(fault, "notes", tuple)()

    def drops(self, namespace: str, interface: str, time: float, frame: bytes) -> bool:
        """Whether a frame that an interface has received was dropped by a fault.

        Args:
            time: when it was received, seconds since 1970.
            frame: the frame, with its Ethernet header.
        """
        return any(each.drops(namespace, interface, time, frame) for each in self._filters)


class Drops(Protocol):
    """A fault that can tell whether it dropped a frame."""

    def drops(self, namespace: str, interface: str, time: float, frame: bytes) -> bool:
        """Whether it dropped the frame; the arguments are those of `Faults.drops`."""
        ...

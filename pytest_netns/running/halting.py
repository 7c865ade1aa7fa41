"""Processes that stand still, as on a machine that is overloaded or suspended: their connections stay, nothing answers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pytest_netns.errors import show_argv
from pytest_netns.running.family import Held
from pytest_netns.values.notes import Note

if TYPE_CHECKING:
    from pytest_netns.running.programs import LabPrograms
    from pytest_netns.running.service import Service


class Halt:
    """Something in a lab that stands still until it is healed (context manager: until the end of the block).

    Args:
        lab: everything that runs in the lab.
        undo: has it go on.
        note: what drawings and reports say of it.
    """

    def __init__(self, lab: LabPrograms, undo: Callable[[], object], note: Note) -> None:
        self._lab = lab
        self._undo = undo
        self._note = note
        lab.halts.append(self)

    @property
    def is_active(self) -> bool:
        """Whether it has not been healed yet."""
        return self in self._lab.halts

    def heal(self) -> None:
        """Have it go on; idempotent."""
        if self.is_active:
            self._lab.halts.remove(self)
            self._undo()

    def notes(self) -> Iterable[Note]:
        """What drawings and reports say of it."""
        return (self._note,)

    def __enter__(self) -> Halt:
        return self

    def __exit__(self, *exception: object) -> None:
        self.heal()


def pause(service: Service) -> Halt:
    """SIGSTOP to all processes of a service; SIGCONT to them when it is healed."""
    with Held(service.family) as held:
        held.stop_all()

    def resume() -> None:
        with Held(service.family) as held:
            held.look()
            held.send(signal.SIGCONT)

    note = Note(service.programs.name, f"{show_argv(service.args)} is paused")
    return Halt(service.programs.lab, resume, note)

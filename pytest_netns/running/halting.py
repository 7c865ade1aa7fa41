"""Processes that stand still, as on a machine that is overloaded or suspended: their connections stay, nothing answers."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeAlias

from pytest_netns.errors import show_argv
from pytest_netns.running.family import Held

if TYPE_CHECKING:
    from pytest_netns.running.service import Service


class Healable(AbstractContextManager["Healable"], Protocol):
    """A fault that was started: undone by `heal`, or at the end of its block."""

    def heal(self) -> None:
        """Undo it; idempotent."""
        ...


BeginFault: TypeAlias = Callable[[str, str, Callable[[], None]], Healable]  # namespace, words, what undoes it


def pause(service: Service) -> Healable:
    """SIGSTOP to all processes of a service; SIGCONT to them when it is healed."""
    with Held(service.family) as held:
        held.stop_all()

    def resume() -> None:
        service.paused = None
        with Held(service.family) as held:
            held.look()
            held.send(signal.SIGCONT)

    words = f"{show_argv(service.args)} is paused"
    return service.programs.lab.begin_fault(service.programs.name, words, resume)

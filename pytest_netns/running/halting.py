"""Pause processes, as on an overloaded or suspended machine, or kill them, as on one that loses power."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from pytest_netns.errors import NetnsError, show_argv
from pytest_netns.running.family import Everything, Held

if TYPE_CHECKING:
    from pytest_netns.running.programs import Programs
    from pytest_netns.running.service import Service


@runtime_checkable
class Healable(AbstractContextManager["Healable"], Protocol):
    """Something done to a network on purpose: undone by `heal`, or at the end of its block; a `Cut`, for instance."""

    def heal(self) -> None:
        """Undo it; idempotent."""
        ...


BeginFault: TypeAlias = Callable[[str, str, Callable[[], None]], Healable]  # namespace, description, undo function


def pause(service: Service) -> Healable:
    """Send SIGSTOP to all processes of a service; SIGCONT when it is healed."""
    with Held(service.family) as held:
        held.stop_all()

    def resume() -> None:
        service.paused = None
        with Held(service.family) as held:
            held.look()
            held.send(signal.SIGCONT)

    description = f"{show_argv(service.args)} is paused"
    return service.programs.lab.begin_fault(service.programs.name, description, resume)


def freeze(programs: Programs) -> Healable:
    """Send SIGSTOP to all processes in a namespace; SIGCONT when it is healed."""
    if programs.frozen is not None:
        return programs.frozen
    with Held(Everything(programs)) as held:
        held.stop_all()

    def thaw() -> None:
        programs.frozen = None
        with Held(Everything(programs)) as held:
            held.look()
            held.send(signal.SIGCONT)

    programs.frozen = programs.lab.begin_fault(programs.name, "frozen", thaw)
    return programs.frozen


def kill_everything(programs: Programs) -> None:
    """Kill all processes in a namespace and wait for their end; its services do not count as died.

    Raises:
        NetnsError: some have not ended.
    """
    for process in programs.processes:
        process.lab_closes()
    with Held(Everything(programs)) as held:
        if not held.kill():
            raise NetnsError(f"cannot kill all in namespace {programs.name!r}: some have not ended after SIGKILL")
    for process in programs.processes:
        process.poll()

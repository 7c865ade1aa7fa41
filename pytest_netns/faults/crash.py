"""Crashes: all programs of a namespace are killed at once, and nothing more is sent, as on a machine that loses power."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_netns.faults.cuts import isolate
from pytest_netns.faults.faults import Faults, Undo
from pytest_netns.kernel.spaces import listening
from pytest_netns.kernel.system.waiting import Deadline
from pytest_netns.running import halting

if TYPE_CHECKING:
    from pytest_netns.faults.members import Member
    from pytest_netns.running.programs import Programs

_SOCKETS_GONE = 10.0  # seconds for the kernel to close the connections of killed programs


def crash(faults: Faults, members: Sequence[Member], programs: Programs) -> Undo:
    """Kill all programs of a namespace while nothing can leave it; see `Namespace.crash`."""
    isolation = isolate(faults, members, programs.name)
    try:
        halting.kill_everything(programs)
    except BaseException:
        isolation.heal()
        raise

    def boot() -> None:
        # Packets that the kernel still sends for the killed programs must not get out: a machine without power sends nothing.
        deadline = Deadline(_SOCKETS_GONE, last=0.05)
        while listening.has_connections(programs.network) and not deadline.is_over():
            deadline.pause()
        isolation.heal()

    return faults.begin(programs.name, "crashed", boot)

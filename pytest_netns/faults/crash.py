"""A machine that loses power: its programs are gone at once, and nothing of them is heard any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_netns.faults.cuts import isolate
from pytest_netns.faults.faults import Faults, Undo
from pytest_netns.kernel.spaces import listening
from pytest_netns.kernel.system.waiting import Patience
from pytest_netns.running import halting

if TYPE_CHECKING:
    from pytest_netns.faults.members import Member
    from pytest_netns.running.programs import Programs

_SOCKETS_GONE = 10.0  # seconds the kernel gets to give up the connections of programs that are gone


def crash(faults: Faults, members: Sequence[Member], programs: Programs) -> Undo:
    """Kill all programs of a namespace while nothing can leave it; see `Namespace.crash`."""
    isolation = isolate(faults, members, programs.name)
    try:
        halting.kill_everything(programs)
    except BaseException:
        isolation.heal()
        raise

    def boot() -> None:
        # What the kernel still has to say for the dead must not be heard later on: a machine without power says nothing.
        patience = Patience(_SOCKETS_GONE, last=0.05)
        while listening.has_connections(programs.network) and not patience.is_over():
            patience.pause()
        isolation.heal()

    return faults.begin(programs.name, "crashed", boot)

"""``with namespace:`` - the calling thread is inside for the time of the block, and back outside after it.

setns(2) is a matter of the thread: other threads stay where they are, threads started inside stay inside.
"""

from __future__ import annotations

import sys
import threading

from pytest_netns.errors import NetnsError, fails_as
from pytest_netns.kernel.programs import watchdog
from pytest_netns.kernel.spaces import moving
from pytest_netns.kernel.system import interrupts
from pytest_netns.running import await_guard, multiprocess, pools
from pytest_netns.running.programs import Programs

AWAIT_ADVICE = (
    "other tasks would run inside it, and the event loop's own threads outside: leave the block before awaiting, or use "
    "ns.socket(), ns.create_server(), ns.call_async(coroutine_function) or ns.create_subprocess_exec()"
)


class _Block(moving.Stay):
    """A ``with`` block: which namespace, and what watches that no task awaits in it."""

    __slots__ = ("awaited", "last_pid", "programs", "watch")

    def __init__(self, programs: Programs) -> None:
        super().__init__(programs.network.enter, programs.name)
        self.programs = programs
        self.watch: await_guard.Watch | None = None
        self.awaited = False
        self.last_pid = -1

    def ended(self, error: BaseException | None) -> None:
        self.programs.note_started(self.last_pid)
        if self.watch is not None:
            self.watch.stop(error)
        if self.awaited:
            _thread.awaited.append(self)


class _Thread(threading.local):
    """The blocks of the calling thread in which a task has awaited, and whose end has yet to say so.

    Of several such tasks, the first to end leaves the blocks of the others too.
    """

    def __init__(self) -> None:
        self.awaited: list[_Block] = []


_thread = _Thread()


@fails_as("enter namespace")
@interrupts.uninterrupted
def enter(programs: Programs) -> None:
    """Move the calling thread into a namespace."""
    block = _Block(programs)
    programs.note_entered()
    multiprocess.adopt()
    pools.adopt()
    block.last_pid = watchdog.last_pid()
    block.__enter__()
    if "asyncio" in sys.modules or "trio" in sys.modules:
        block.watch = await_guard.watch(lambda: _expel(block))


@interrupts.uninterrupted
def leave(programs: Programs, error: BaseException | None = None) -> None:
    """Move the calling thread back to where it was; end the process if that cannot be done.

    Args:
        programs: those of the namespace whose innermost block ends.
        error: the exception that ends it; blocks inside this one, which it may have kept from ending, end too.

    Raises:
        NetnsError: a task has awaited inside the block, or another block has not ended yet.
    """
    stays = moving.stays()
    block = next((stay for stay in reversed(stays) if isinstance(stay, _Block) and stay.programs is programs), None)
    if block is not None:
        moving.leave(block, error)
    awaited = next((each for each in _thread.awaited if each.programs is programs), None)
    if awaited is None:
        if block is None and error is None:
            raise NetnsError(f"cannot leave namespace {programs.name!r}: this thread has not entered it")
    else:
        _thread.awaited.remove(awaited)
        raise NetnsError(f"cannot await inside `with` namespace {programs.name!r}: {AWAIT_ADVICE}")


def leave_all(depth: int = 0) -> list[str]:
    """Leave every block the calling thread is in beyond a depth; returns the names of the namespaces left."""
    return moving.leave_to(depth)


def depth() -> int:
    """How many blocks the calling thread is in."""
    return moving.depth()


@interrupts.uninterrupted
def _expel(block: _Block) -> None:
    """A task has awaited inside a block: put the thread back at once, before other tasks run."""
    stays = moving.stays()
    for stay in reversed(stays[stays.index(block) :]):
        moving.put_back(stay)
        if isinstance(stay, _Block) and not stay.awaited:
            stay.awaited = True
            if stay.watch is not None:
                stay.watch.cancel()

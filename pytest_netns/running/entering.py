"""``with namespace:`` - the calling thread is inside for the duration of the block.

setns(2) affects one thread: other threads stay where they are, threads started inside stay inside.
"""

from __future__ import annotations

import sys
import threading

from pytest_netns.errors import NetnsError, fails_as
from pytest_netns.kernel.programs import leaving
from pytest_netns.kernel.spaces import moving
from pytest_netns.kernel.system import interrupts
from pytest_netns.running import await_guard, libraries
from pytest_netns.running.programs import Programs

AWAIT_ADVICE = (
    "other tasks would run inside it, and the event loop's own threads outside: leave the block before awaiting, or use "
    "ns.socket(), ns.create_server(), ns.call_async(coroutine_function) or ns.create_subprocess_exec()"
)


class _Block(moving.NamespaceBlock):
    """A ``with`` block: its namespace, and the watch that detects an await in it."""

    __slots__ = ("awaited", "begin", "programs", "watch")

    def __init__(self, programs: Programs) -> None:
        super().__init__(programs.enter, programs.name)
        self.programs = programs
        self.watch: await_guard.Watch | None = None
        self.awaited = False
        self.begin = leaving.moment()

    def ended(self, error: BaseException | None) -> None:
        self.programs.note_started(self.begin)
        if self.watch is not None:
            self.watch.stop(error)
        if self.awaited:
            _thread.awaited.append(self)


class _Thread(threading.local):
    """The blocks of the calling thread in which a task has awaited, and whose end must still report it.

    Of several such tasks, the first to end leaves the blocks of the others too.
    """

    def __init__(self) -> None:
        self.awaited: list[_Block] = []


_thread = _Thread()


@fails_as("enter namespace")
@interrupts.uninterrupted
def enter(programs: Programs) -> None:
    """Move the calling thread into a namespace."""
    programs.note_entered()
    libraries.adopt()
    block = _Block(programs)
    block.__enter__()
    if "asyncio" in sys.modules or "trio" in sys.modules:
        try:
            block.watch = await_guard.watch(lambda: _expel(block))
        except BaseException as error:
            moving.leave(block, error)
            raise


@interrupts.uninterrupted
def leave(programs: Programs, error: BaseException | None = None) -> None:
    """Move the calling thread back to where it was; end the process if that cannot be done.

    Args:
        programs: the programs of the namespace whose innermost block ends.
        error: the exception that ends it; blocks inside this one that were not left because of it end too.

    Raises:
        NetnsError: a task has awaited inside the block, or another block has not ended yet.
    """
    libraries.adopt()  # libraries imported inside: their threads may be in this namespace, later work must not be
    block = _find(programs)
    if block is not None:
        moving.leave(block, error)
    for awaited in _thread.awaited:
        if awaited.programs is programs:
            _thread.awaited.remove(awaited)
            raise NetnsError(f"cannot await inside `with` namespace {programs.name!r}: {AWAIT_ADVICE}")
    if block is None and error is None:
        raise NetnsError(f"cannot leave namespace {programs.name!r}: this thread has not entered it")


def _find(programs: Programs) -> _Block | None:
    """The calling thread's innermost block for a namespace."""
    for block in reversed(moving.blocks()):
        if isinstance(block, _Block) and block.programs is programs:
            return block
    return None


def leave_all(depth: int = 0) -> list[str]:
    """Leave all blocks deeper than a depth; returns the names of the namespaces left."""
    return moving.leave_to(depth)


def depth() -> int:
    """The number of blocks the calling thread is in."""
    return moving.depth()


@interrupts.uninterrupted
def _expel(block: _Block) -> None:
    """Handle a task that awaited inside a block: move the thread back at once, before other tasks run."""
    blocks = moving.blocks()
    for inner in reversed(blocks[blocks.index(block) :]):
        moving.restore_thread(inner)
        if isinstance(inner, _Block) and not inner.awaited:
            inner.awaited = True
            if inner.watch is not None:
                inner.watch.cancel()

"""Move the calling thread into network namespaces and back, recording each move.

setns(2) moves the calling thread alone. A signal handler may raise an exception between any two instructions, so a move is
recorded before the thread moves: whatever interrupts it, a caller further up the stack can restore the thread.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence

from pytest_netns.errors import NetnsError
from pytest_netns.kernel.system import forking, interrupts, privileges, syscalls

THREAD_NAMESPACE = "/proc/thread-self/ns/net"  # /proc/self would be the main thread's
_EXIT_STATUS = 70  # EX_SOFTWARE, sysexits.h


class NamespaceBlock:
    """A block during which the calling thread is in another network namespace (context manager).

    Args:
        move: moves the calling thread there.
        name: of the namespace, for errors.

    Attributes:
        back: descriptor of the namespace the thread came from; -1 outside of the block.
        is_back: whether the thread was restored before the end of the block.
        kept: whether the block outlasts the current test: a fixture of wider scope entered it.
    """

    __slots__ = ("_move", "back", "is_back", "kept", "name")

    def __init__(self, move: Callable[[], object], name: str = "") -> None:
        self._move = move
        self.name = name
        self.back = -1
        self.is_back = False
        self.kept = False

    @interrupts.uninterrupted
    def __enter__(self) -> NamespaceBlock:
        interrupts.guard_raising()
        blocks = _thread.blocks
        depth = len(blocks)
        try:
            self.back = open_current() if blocks else _open_outside()
            blocks.append(self)
            self._move()
        except BaseException:
            leave_to(depth)
            if self.back >= 0:  # not recorded yet
                _close(self.back)
            raise
        return self

    @interrupts.uninterrupted
    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        leave(self, error)

    def ended(self, error: BaseException | None) -> None:
        """Called when the thread has left the block."""


class _Thread(threading.local):
    """State of the calling thread.

    Attributes:
        blocks: the blocks it is in, innermost last.
        path, directory: the path of its namespace in /proc. The main thread, where tests run, has a descriptor of the
            directory, since opening the whole path takes three times as long.
        home, home_name: a descriptor of the namespace the main thread was in at first, and what readlink(2) returns for it.
    """

    def __init__(self) -> None:
        self.blocks: list[NamespaceBlock] = []
        self.path, self.directory = THREAD_NAMESPACE, -1
        self.home, self.home_name = -1, ""
        if threading.get_ident() == threading.main_thread().ident and privileges.has_proc():
            self.path, self.directory = "net", os.open("/proc/thread-self/ns", os.O_DIRECTORY | os.O_CLOEXEC)
            self.note_home()

    def note_home(self) -> None:
        """Record where the thread is now."""
        self.home = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.directory)
        self.home_name = os.readlink(self.path, dir_fd=self.directory)


_thread = _Thread()


def _forget_in_child() -> None:
    """In a forked child: its descriptors are the parent's. It may close and reuse their numbers, as daemons do."""
    _thread.path, _thread.directory = THREAD_NAMESPACE, -1
    _thread.home, _thread.home_name = -1, ""


forking.in_child(_forget_in_child)


def renew_home() -> None:
    """The calling thread has moved for good, outside of blocks: later blocks will usually lead back to where it is now."""
    if _thread.home_name:
        _thread.home_name = ""
        os.close(_thread.home)
        _thread.note_home()


def open_current() -> int:
    """Open a descriptor of the calling thread's network namespace."""
    return os.open(_thread.path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=_thread.directory)


def _open_outside() -> int:
    """The same for a thread that is in no block: usually it is where it was at first, and comparing takes less time than opening."""
    thread = _thread
    if thread.home_name and os.readlink(thread.path, dir_fd=thread.directory) == thread.home_name:
        return thread.home
    return open_current()


def _close(descriptor: int) -> None:
    """Close a descriptor of a namespace to go back to."""
    if descriptor != _thread.home:
        os.close(descriptor)


def current_inode() -> int:
    """The inode of the calling thread's network namespace; 0 without /proc, as on other systems, where threads stay where they are."""
    try:
        return os.stat(_thread.path, dir_fd=_thread.directory).st_ino
    except FileNotFoundError:
        return 0


def blocks() -> Sequence[NamespaceBlock]:
    """The blocks the calling thread is in, innermost last."""
    return _thread.blocks


def depth() -> int:
    """The number of blocks the calling thread is in."""
    return len(_thread.blocks)


@interrupts.uninterrupted
def leave(block: NamespaceBlock, error: BaseException | None = None) -> None:
    """Leave a block, and blocks inside it that were not left because of an exception.

    Raises:
        NetnsError: there is no exception, and a block inside it has not ended.
    """
    blocks = _thread.blocks
    if blocks and blocks[-1] is block:
        _leave_last(blocks, error)
    elif error is None:
        raise NetnsError(f"cannot leave namespace {block.name!r}: this thread did not enter it last")
    elif block in blocks:
        leave_to(blocks.index(block), error)


@interrupts.uninterrupted
def leave_to(depth: int, error: BaseException | None = None) -> list[str]:
    """Leave all blocks deeper than a depth; returns the names of the namespaces left."""
    left: list[str] = []
    blocks = _thread.blocks
    while len(blocks) > depth:
        left.append(blocks[-1].name)
        _leave_last(blocks, error)
    return left


@interrupts.uninterrupted
def _leave_last(blocks: list[NamespaceBlock], error: BaseException | None) -> None:
    block = blocks[-1]
    if not block.is_back:
        restore_thread(block)
    blocks.pop()
    back, block.back = block.back, -1
    _close(back)
    block.ended(error)


@interrupts.uninterrupted
def restore_thread(block: NamespaceBlock) -> None:
    """Move the calling thread back to where a block began, or end the process: it must never continue in the wrong network."""
    if block.is_back:
        return
    try:
        syscalls.setns(block.back, syscalls.CLONE_NEWNET)
    except OSError as error:
        # A process that may not create namespaces may not enter them either: then the thread never moved.
        if not _is_in(block.back):
            abort(f"cannot leave network namespace {block.name!r}: {error}")
    block.is_back = True


def _is_in(namespace: int) -> bool:
    """Whether the calling thread is in the namespace of a descriptor; false if that or our own have been closed."""
    try:
        return current_inode() == os.fstat(namespace).st_ino
    except OSError:
        return False


def outside() -> contextlib.AbstractContextManager[object]:
    """A block in which the calling thread is where it was before its outermost block."""
    if not _thread.blocks:
        return contextlib.nullcontext()
    back = _thread.blocks[0].back
    return NamespaceBlock(lambda: syscalls.setns(back, syscalls.CLONE_NEWNET), "outside")


def keep(depth: int) -> None:
    """Mark the blocks deeper than a depth as outlasting the current test."""
    for block in _thread.blocks[depth:]:
        block.kept = True


def depth_kept() -> int:
    """The number of blocks the calling thread is in that outlast a test."""
    return max((number for number, block in enumerate(_thread.blocks, 1) if block.kept), default=0)


def abort(reason: str) -> None:
    """Print the reason and end the process at once, without finalizers: they would run in the wrong network."""
    sys.stderr.write(f"\npytest-netns: {reason}\npytest-netns: ending the process\n")
    sys.stderr.flush()
    os._exit(_EXIT_STATUS)

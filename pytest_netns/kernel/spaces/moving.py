"""Where the calling thread is: moves into network namespaces and back, every one of them on record.

setns(2) moves the calling thread alone. A signal handler may raise an exception between any two instructions, so a move is
recorded before the thread moves: whatever interrupts it, the next one up the stack can put the thread back.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable

from pytest_netns.errors import NetnsError
from pytest_netns.kernel.system import interrupts, syscalls

THREAD_NAMESPACE = "/proc/thread-self/ns/net"  # /proc/self would be the main thread's
_EXIT_STATUS = 70  # EX_SOFTWARE, sysexits.h


class Stay:
    """A block during which the calling thread is in another network namespace (context manager).

    Args:
        move: moves the calling thread there.
        name: of the namespace, for errors.

    Attributes:
        back: descriptor of the namespace the thread came from; -1 outside of the block.
        is_back: whether the thread has been put back before the block has ended.
        kept: whether the block lasts longer than the test that runs: a fixture of wider scope has begun it.
    """

    __slots__ = ("_move", "back", "is_back", "kept", "name")

    def __init__(self, move: Callable[[], object], name: str = "") -> None:
        self._move = move
        self.name = name
        self.back = -1
        self.is_back = False
        self.kept = False

    @interrupts.uninterrupted
    def __enter__(self) -> Stay:
        interrupts.guard_raising()
        stays = _thread.stays
        depth = len(stays)
        try:
            self.back = open_current()
            stays.append(self)
            self._move()
        except BaseException:
            leave_to(depth)
            if self.back >= 0:  # not on record yet
                os.close(self.back)
            raise
        return self

    @interrupts.uninterrupted
    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        leave(self, error)

    def ended(self, error: BaseException | None) -> None:
        """Called when the thread has left."""


class _Thread(threading.local):
    """What is known of the calling thread.

    Attributes:
        stays: the blocks it is in, innermost last.
        path, directory: where /proc tells its namespace. The main thread, where tests run, has a descriptor of the
            directory, as the whole path takes three times as long.
    """

    def __init__(self) -> None:
        self.stays: list[Stay] = []
        self.path, self.directory = THREAD_NAMESPACE, -1
        if threading.get_ident() == threading.main_thread().ident:
            self.path, self.directory = "net", os.open("/proc/thread-self/ns", os.O_DIRECTORY | os.O_CLOEXEC)


_thread = _Thread()


def _forget_in_child() -> None:
    """A forked copy's directory is its parent's."""
    if _thread.directory >= 0:
        os.close(_thread.directory)
    _thread.path, _thread.directory = THREAD_NAMESPACE, -1


os.register_at_fork(after_in_child=_forget_in_child)


def open_current() -> int:
    """A descriptor of the network namespace that the calling thread is in."""
    return os.open(_thread.path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=_thread.directory)


def current_inode() -> int:
    """The number of the network namespace the calling thread is in."""
    return os.stat(_thread.path, dir_fd=_thread.directory).st_ino


def stays() -> tuple[Stay, ...]:
    """The blocks the calling thread is in, innermost last."""
    return tuple(_thread.stays)


def depth() -> int:
    """How many blocks the calling thread is in."""
    return len(_thread.stays)


@interrupts.uninterrupted
def leave(stay: Stay, error: BaseException | None = None) -> None:
    """Leave a block, and what an exception has kept the thread from leaving inside it.

    Raises:
        NetnsError: there is no exception, and another block was begun inside it and has not ended.
    """
    found = _thread.stays
    if found and found[-1] is stay:
        _leave_last(found, error)
    elif error is None:
        raise NetnsError(f"cannot leave namespace {stay.name!r}: this thread did not enter it last")
    elif stay in found:
        leave_to(found.index(stay), error)


@interrupts.uninterrupted
def leave_to(depth: int, error: BaseException | None = None) -> list[str]:
    """Leave every block the calling thread is in beyond a depth; returns the names of the namespaces left."""
    left = []
    found = _thread.stays
    while len(found) > depth:
        left.append(found[-1].name)
        _leave_last(found, error)
    return left


@interrupts.uninterrupted
def _leave_last(found: list[Stay], error: BaseException | None) -> None:
    stay = found[-1]
    if not stay.is_back:
        put_back(stay)
    found.pop()
    back, stay.back = stay.back, -1
    os.close(back)
    stay.ended(error)


@interrupts.uninterrupted
def put_back(stay: Stay) -> None:
    """Move the calling thread to where a block began, or end the process: it must never run on in the wrong network."""
    if stay.is_back:
        return
    try:
        syscalls.setns(stay.back, syscalls.CLONE_NEWNET)
    except OSError as error:
        # Who may not make namespaces may not enter them either, and has never left.
        if current_inode() != os.fstat(stay.back).st_ino:
            abort(f"cannot leave network namespace {stay.name!r}: {error}")
    stay.is_back = True


def outside() -> contextlib.AbstractContextManager[object]:
    """A block during which the calling thread is where it was before its outermost block."""
    if not _thread.stays:
        return contextlib.nullcontext()
    back = _thread.stays[0].back
    return Stay(lambda: syscalls.setns(back, syscalls.CLONE_NEWNET), "outside")


def keep(depth: int) -> None:
    """What the calling thread has entered beyond a depth outlasts the test that runs."""
    for stay in _thread.stays[depth:]:
        stay.kept = True


def depth_kept() -> int:
    """How many blocks the calling thread is in that outlast a test."""
    return max((number for number, stay in enumerate(_thread.stays, 1) if stay.kept), default=0)


def abort(reason: str) -> None:
    """Say why and end the process at once, without finalizers: they would run in the wrong network."""
    sys.stderr.write(f"\npytest-netns: {reason}\npytest-netns: ending the process\n")
    sys.stderr.flush()
    os._exit(_EXIT_STATUS)

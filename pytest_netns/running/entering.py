"""``with namespace:`` - the calling thread is inside for the time of the block, and back outside after it.

setns(2) is a matter of the thread: other threads stay where they are, threads started inside stay inside.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_netns.errors import KernelError, NetnsError, fails_as
from pytest_netns.kernel.spaces import netns
from pytest_netns.kernel.system import interrupts, syscalls
from pytest_netns.running import await_guard, multiprocess

if TYPE_CHECKING:
    from pytest_netns.lab.namespace import Namespace

AWAIT_ADVICE = (
    "other tasks would run inside it, and the event loop's own threads outside: leave the block before awaiting, or use "
    "ns.socket(), ns.create_server(), ns.call_async(coroutine_function) or ns.create_subprocess_exec()"
)


@dataclass(eq=False, slots=True)
class _Entry:
    """One block a thread is in: which namespace, where to go back to, whether it is back already since a task awaited."""

    namespace: Namespace
    back: int
    watch: await_guard.Watch | None = None
    expelled: bool = False


class _Entries(threading.local):
    """The blocks the calling thread is in, innermost last."""

    def __init__(self) -> None:
        self.stack: list[_Entry] = []


_entries = _Entries()


@fails_as("enter namespace")
@interrupts.uninterrupted
def enter(namespace: Namespace) -> None:
    """Move the calling thread into a namespace."""
    fd = namespace._kernel.fd
    namespace.programs.note_entered()
    multiprocess.adopt()
    # On record before the thread moves: whatever interrupts this, `leave_all` puts it back.
    entry = _Entry(namespace, os.open(netns.THREAD_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC))
    _entries.stack.append(entry)
    try:
        syscalls.setns(fd, syscalls.CLONE_NEWNET)
    except OSError as error:
        _entries.stack.pop()
        os.close(entry.back)
        raise KernelError("enter namespace", error.errno or 0, namespace=namespace.name) from error
    if "asyncio" in sys.modules or "trio" in sys.modules:
        entry.watch = await_guard.watch(lambda: _expel(entry))


@interrupts.uninterrupted
def leave(namespace: Namespace, error: BaseException | None = None) -> None:
    """Move the calling thread back to where it was; end the process if that cannot be done.

    Raises:
        NetnsError: a task has awaited inside the block.
    """
    if not _entries.stack or _entries.stack[-1].namespace is not namespace:
        raise NetnsError(f"cannot leave namespace {namespace.name!r}: this thread did not enter it last")
    if _leave_last(error):
        raise NetnsError(f"cannot await inside `with` namespace {namespace.name!r}: {AWAIT_ADVICE}")


def leave_all(depth: int = 0) -> list[str]:
    """Leave every block the calling thread is in beyond a depth; returns the names of the namespaces left."""
    left = []
    while len(_entries.stack) > depth:
        left.append(_entries.stack[-1].namespace.name)
        _leave_last(None)
    return left


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """The calling thread is where it was before its outermost block, for the time of this one."""
    if not _entries.stack:
        yield
        return
    inside = os.open(netns.THREAD_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(_entries.stack[0].back, syscalls.CLONE_NEWNET)
        yield
    finally:
        netns.restore(inside)


def depth() -> int:
    """How many blocks the calling thread is in."""
    return len(_entries.stack)


def current() -> Namespace | None:
    """The namespace of the innermost block the calling thread is in."""
    return _entries.stack[-1].namespace if _entries.stack else None


def mark(*functions: Callable[..., Any]) -> None:
    """Have Ctrl-C put off while these run."""
    for function in functions:
        interrupts.uninterrupted(function)


@interrupts.uninterrupted
def _leave_last(error: BaseException | None) -> bool:
    """Leave the innermost block; whether the thread had been put back before, since a task awaited."""
    entry = _entries.stack[-1]
    if not entry.expelled:
        _go_back(entry)
    _entries.stack.pop()
    os.close(entry.back)
    if entry.watch is not None:
        entry.watch.stop(error)
    return entry.expelled


def _go_back(entry: _Entry) -> None:
    try:
        syscalls.setns(entry.back, syscalls.CLONE_NEWNET)
    except OSError as error:
        netns.abort(f"cannot leave network namespace {entry.namespace.name!r}: {error}")


@interrupts.uninterrupted
def _expel(awaited: _Entry) -> None:
    """A task has awaited inside a block: put the thread back at once, before other tasks run."""
    for entry in reversed(_entries.stack[_entries.stack.index(awaited) :]):
        if not entry.expelled:
            _go_back(entry)
            entry.expelled = True
            if entry.watch is not None:
                entry.watch.cancel()

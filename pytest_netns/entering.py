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

from pytest_netns.errors import KernelError, NetnsError
from pytest_netns.kernel import interrupts, netns, syscalls

if TYPE_CHECKING:
    from pytest_netns.namespace import Namespace

AWAIT_ADVICE = (
    "other tasks would run inside it, and the event loop's own threads outside: "
    "leave the block before awaiting, or use ns.socket(), ns.call(coroutine_function) or ns.create_subprocess_exec()"
)


@dataclass
class _Entry:
    """One block a thread is in: which namespace, where to go back to, the task that awaited inside if one did."""

    namespace: Namespace
    back: int
    awaited: Any = None


class _Entries(threading.local):
    """The blocks the calling thread is in, innermost last."""

    def __init__(self) -> None:
        self.stack: list[_Entry] = []


_entries = _Entries()


@interrupts.uninterrupted
def enter(namespace: Namespace) -> None:
    """Move the calling thread into a namespace."""
    fd = namespace._kernel.fd
    back = os.open(netns.THREAD_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(fd, syscalls.CLONE_NEWNET)
    except OSError as error:
        os.close(back)
        raise KernelError("enter namespace", error.errno or 0, namespace=namespace.name) from error
    entry = _Entry(namespace, back)
    _entries.stack.append(entry)
    namespace._lab._note_entered(namespace)
    if "asyncio" in sys.modules:
        _watch_for_await(entry)


@interrupts.uninterrupted
def leave(namespace: Namespace) -> None:
    """Move the calling thread back to where it was; end the process if that cannot be done."""
    if not _entries.stack or _entries.stack[-1].namespace is not namespace:
        raise NetnsError(f"cannot leave namespace {namespace.name!r}: this thread did not enter it last")
    entry = _entries.stack.pop()
    if entry.awaited is None:
        _go_back(entry)
        return
    entry.awaited.uncancel()
    raise NetnsError(f"cannot await inside `with` namespace {namespace.name!r}: {AWAIT_ADVICE}")


def leave_all(depth: int = 0) -> list[str]:
    """Leave every block the calling thread is in beyond a depth; returns the names of the namespaces left."""
    left = []
    while len(_entries.stack) > depth:
        entry = _entries.stack.pop()
        if entry.awaited is None:
            _go_back(entry)
        left.append(entry.namespace.name)
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


def _go_back(entry: _Entry) -> None:
    try:
        syscalls.setns(entry.back, syscalls.CLONE_NEWNET)
    except OSError as error:
        netns.abort(f"cannot leave network namespace {entry.namespace.name!r}: {error}")
    finally:
        os.close(entry.back)


def _watch_for_await(entry: _Entry) -> None:
    """In a coroutine: if the event loop gets to run before the block has ended, something inside it has awaited."""
    import asyncio

    try:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
    except RuntimeError:
        return
    if task is None:
        return

    def check() -> None:
        if entry in _entries.stack:
            _go_back(entry)
            entry.awaited = task
            task.cancel("awaited inside `with namespace`")

    loop.call_soon(check)

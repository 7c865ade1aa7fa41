"""Track the processes that Python code inside a namespace started, even if they have since moved to another namespace."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable

from pytest_netns.kernel.programs.watchdog import signal_if
from pytest_netns.kernel.spaces import netns
from pytest_netns.kernel.system import forking, process_table, procfs, syscalls

Identity = tuple[int, int]  # PID and start time: a PID alone may be reused
Moment = tuple[bytes, float]  # the calling thread's children, as `_children` lists them, and the seconds since boot

_CHILDREN = "/proc/thread-self/children"  # proc_pid_task_children(5); not every kernel has it
_SHORT, _LONG = 200, 65536  # bytes read at a time; allocating more than some hundred takes as long as reading


class _Thread(threading.local):
    """The descriptor of the main thread's list of children, kept open since opening takes longer than reading; -1 in other threads."""

    descriptor = -1


_thread = _Thread()


def _forget_in_child() -> None:
    """In a forked child: the descriptor is the parent's list; the child may close and reuse its number, as daemons do."""
    _thread.descriptor = -1


forking.in_child(_forget_in_child)


def moment() -> Moment:
    """The current moment, for `started_since`."""
    return _children(), time.clock_gettime(time.CLOCK_BOOTTIME)


def started_since(begin: Moment | None) -> set[Identity]:
    """The processes that the calling thread has started since a moment, and that still run; None: since its own start."""
    children = _children()
    if begin is None:
        return identities(map(int, children.split()))
    before, clock = begin
    if children == before:
        return set()
    # When another thread ends, its children become this thread's: leave out those that it started before this block.
    first = int(clock * process_table.TICKS)
    new = identities(map(int, set(children.split()) - set(before.split())))
    return {(pid, started) for pid, started in new if started >= first}


def _children() -> bytes:
    """The PIDs of the calling thread's children, as text; empty on a kernel that does not list them."""
    if _thread.descriptor >= 0:
        try:
            return _read(_thread.descriptor)
        except (OSError, ValueError):  # other code has closed it, or even reused its number
            _thread.descriptor = -1
    try:
        if threading.get_ident() == threading.main_thread().ident:
            _thread.descriptor = _open()
            return _read(_thread.descriptor)
        if not syscalls.has_children():
            return b""
        descriptor = _open()
        try:
            return _read(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return b""


def _open() -> int:
    return os.open(_CHILDREN, os.O_RDONLY | os.O_CLOEXEC)


def _read(descriptor: int) -> bytes:
    text = os.pread(descriptor, _SHORT, 0)
    if len(text) > _SHORT // 2:  # the last PID may be cut off
        text = b""
        while part := os.pread(descriptor, _LONG, len(text)):
            text += part
    if text and not text.replace(b" ", b"").isdigit():
        raise ValueError(text)
    return text


def identities(pids: Iterable[int]) -> set[Identity]:
    """The processes that have these PIDs now; without those that have ended."""
    stats = (process_table.stat(pid) for pid in pids)
    return {(process.pid, process.started) for process in stats if process is not None and process.state != "Z"}


def with_descendants(processes: Iterable[Identity]) -> set[Identity]:
    """Those that still run, with all their descendants."""
    return {
        descendant
        for pid, started in processes
        if runs((pid, started))
        for descendant in identities(procfs.descendants(pid))
    }


def runs(process: Identity) -> bool:
    """Whether a process still runs."""
    return process in identities([process[0]])


def is_elsewhere(process: Identity) -> bool:
    """Whether a process is in a network namespace that is neither one of ours nor the one this process started in."""
    with contextlib.suppress(OSError):  # it has ended, or may not be inspected
        return netns.is_foreign(procfs.network_namespace(process[0]))
    return False


def send(process: Identity, number: int) -> bool:
    """Signal a process; returns whether it was running."""
    return signal_if(process[0], lambda _: runs(process), number)

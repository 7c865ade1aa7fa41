"""Track the processes that Python code inside a namespace started, even if they have since moved to another namespace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from pytest_netns.kernel.programs.watchdog import newest_pid, signal_if
from pytest_netns.kernel.spaces import netns
from pytest_netns.kernel.system import process_table, procfs, syscalls

Identity = tuple[int, int]  # PID and start time: a PID alone may be reused

_CHILDREN = "/proc/thread-self/children"  # proc_pid_task_children(5); not every kernel has it


def started_since(last: bytes | None) -> set[Identity]:
    """The processes that the calling thread has started since a `newest_pid`, and that still run; None: since its own start."""
    newest = b""
    try:
        if last is not None:
            newest = newest_pid()
        if newest == last or not syscalls.has_children():
            return set()
        with open(_CHILDREN, encoding="utf-8") as file:
            children = [int(pid) for pid in file.read().split()]
    except OSError:
        return set()
    if last is None:
        return identities(children)
    first, end = int(last), int(newest)
    if first < end:
        return identities(pid for pid in children if first < pid <= end)
    return identities(pid for pid in children if pid > first or pid <= end)  # PIDs have wrapped around


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

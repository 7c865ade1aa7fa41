"""Processes that Python code inside a namespace has started, wherever they are: they may have a network of their own by now."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from pytest_netns.kernel.programs.watchdog import last_pid, signal_if
from pytest_netns.kernel.spaces import netns
from pytest_netns.kernel.system import process_table, procfs, syscalls

Identity = tuple[int, int]  # PID and start time: a PID alone may be another process's later on

NO_CHILDREN = -1
_CHILDREN = "/proc/thread-self/children"  # proc_pid_task_children(5); not every kernel has it


def children_from() -> int:
    """What to give to `started_since` later: the PID given out last, or that the calling thread has no children."""
    return last_pid() if syscalls.has_children() else NO_CHILDREN


def started_since(last: int) -> set[Identity]:
    """The processes that the calling thread has started since `children_from`, as far as they run."""
    if last == NO_CHILDREN and not syscalls.has_children():
        return set()
    try:
        newest = last_pid()
        if newest == last:
            return set()
        with open(_CHILDREN, encoding="utf-8") as file:
            children = [int(pid) for pid in file.read().split()]
    except OSError:
        return set()
    if last == NO_CHILDREN:
        return identities(children)
    if last < newest:
        return identities(pid for pid in children if last < pid <= newest)
    return identities(pid for pid in children if pid > last or pid <= newest)  # PIDs have started anew


def identities(pids: Iterable[int]) -> set[Identity]:
    """Which processes have these PIDs now; without those that have ended."""
    found = (process_table.stat(pid) for pid in pids)
    return {(each.pid, each.started) for each in found if each is not None and each.state != "Z"}


def with_descendants(processes: Iterable[Identity]) -> set[Identity]:
    """Those that run, with all below them."""
    return {each for pid, started in processes if runs((pid, started)) for each in identities(procfs.descendants(pid))}


def runs(process: Identity) -> bool:
    """Whether it has not ended."""
    return process in identities([process[0]])


def is_elsewhere(process: Identity) -> bool:
    """Whether it is in a network namespace that is neither one of ours nor the one that this process started in."""
    with contextlib.suppress(OSError):  # it has ended, or is not ours to look at
        return netns.is_foreign(procfs.network_namespace(process[0]))
    return False


def send(process: Identity, number: int) -> bool:
    """Signal a process; whether it ran."""
    return signal_if(process[0], lambda _: runs(process), number)

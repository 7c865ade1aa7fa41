"""End processes that are in a namespace but not under its init: those started by Python code inside it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from pytest_netns.kernel.programs import leaving
from pytest_netns.kernel.programs.leaving import Identity
from pytest_netns.kernel.programs.watchdog import last_pid, scan_pids, signal_if_inside
from pytest_netns.kernel.system import procfs
from pytest_netns.kernel.system.waiting import Deadline, now

_KILL_TIMEOUT = 2.0  # seconds for SIGKILL to take effect
_PAUSE = 0.002
_FRESH = 0.2  # seconds within which PIDs cannot have wrapped around to the same value
_FEW = 500  # up to so many PIDs are checked one by one, rather than by listing all processes


class FirstEntry(NamedTuple):
    """The first time a namespace was entered.

    Attributes:
        last_pid: the last PID allocated before.
        time: on the clock of `waiting.now`.
        started: processes that Python code has started inside since, if they still ran when its block ended.
    """

    last_pid: int
    time: float
    started: set[Identity]


class Terminated(NamedTuple):
    """The processes that were sent SIGTERM.

    Attributes:
        inside: the PIDs of those inside.
        elsewhere: those that had left for another namespace.
    """

    inside: list[int]
    elsewhere: set[Identity]


def first_entry() -> FirstEntry:
    """The current time and last PID."""
    return FirstEntry(last_pid(), now(), set())


def terminate(inodes: Mapping[int, FirstEntry]) -> Terminated:
    """Send SIGTERM to all processes in namespaces, and to those started inside that have left; returns them.

    Args:
        inodes: the namespaces' inodes, each with its first entry.
    """
    if not inodes:
        return Terminated([], set())
    started = leaving.with_descendants(process for entry in inodes.values() for process in entry.started)
    elsewhere = {process for process in started if leaving.is_elsewhere(process)}
    first = min(inodes.values(), key=lambda entry: entry.time)
    inside = _signal_inside(_since(first), set(inodes), signal.SIGTERM, elsewhere)
    for process in elsewhere:
        leaving.send(process, signal.SIGTERM)
    return Terminated(inside, elsewhere)


def end_processes(inodes: Collection[int], terminated: Terminated, deadline: Deadline) -> bool:
    """Wait for the processes that were sent SIGTERM; at the deadline, send SIGKILL to all that are inside or had left.

    They may have started others since, even in response to SIGTERM: so a scan must find none after one was killed.

    Returns:
        Whether all have ended.
    """
    inside, elsewhere = terminated
    if not inside and not elsewhere:
        return True
    places = set(inodes)
    pause = threading.Event()
    while (inside or elsewhere) and not deadline.is_over():
        inside = [pid for pid in inside if signal_if_inside(pid, places, 0)]
        elsewhere = {process for process in elsewhere if leaving.runs(process)}
        pause.wait(_PAUSE if inside or elsewhere else 0)
    kill_deadline = Deadline(_KILL_TIMEOUT)
    while True:
        elsewhere = leaving.with_descendants(elsewhere)
        killed = _signal_inside(scan_pids(), places, signal.SIGKILL, elsewhere)
        killed += [pid for pid, started in elsewhere if leaving.send((pid, started), signal.SIGKILL)]
        if not killed:
            return True
        if kill_deadline.is_over():
            return False
        pause.wait(_PAUSE)


def _since(entry: FirstEntry) -> Iterator[int]:
    """The PIDs that may have been allocated since; all PIDs if they may have wrapped around."""
    last = last_pid()
    if now() - entry.time < _FRESH and 0 <= last - entry.last_pid <= _FEW:
        return scan_pids(range(entry.last_pid + 1, last + 1), last)
    return scan_pids()


def _signal_inside(pids: Iterator[int], inodes: set[int], number: int, elsewhere: set[Identity]) -> list[int]:
    """Signal the processes that are in a namespace; returns them, and adds their descendants in other namespaces to a set."""
    this_process = os.getpid()
    signalled: list[int] = []
    for pid in pids:
        if pid == this_process or not _is_inside(pid, inodes):
            continue
        children = leaving.identities(procfs.children(pid))
        if signal_if_inside(pid, inodes, number):  # false for the number of one of our own threads
            signalled.append(pid)
            elsewhere |= {
                descendant for descendant in leaving.with_descendants(children) if not _is_inside(descendant[0], inodes)
            }
    return signalled


def _is_inside(pid: int, inodes: set[int]) -> bool:
    try:
        return procfs.network_namespace(pid) in inodes
    except OSError:
        return False

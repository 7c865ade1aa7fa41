"""Ending processes that are in a namespace but not under its init: those that Python code inside it has started."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from pytest_netns.kernel.programs.watchdog import chase, last_pid, signal_if, signal_if_inside
from pytest_netns.kernel.system import process_table, procfs
from pytest_netns.kernel.system.waiting import Patience, now

_KILL_TIMEOUT = 2.0  # seconds SIGKILL gets to take effect
_PAUSE = 0.002
_FRESH = 0.2  # seconds within which PIDs cannot have started anew and come back to where they were
_FEW = 500  # PIDs that are looked at one by one rather than by listing all processes


class Beginning(NamedTuple):
    """When somebody first got into a namespace.

    Attributes:
        last_pid: the PID that had been given out last.
        time: as `waiting.now` tells it.
    """

    last_pid: int
    time: float


def beginning() -> Beginning:
    """This moment."""
    return Beginning(last_pid(), now())


def ask_to_end(inodes: Mapping[int, Beginning]) -> list[int]:
    """SIGTERM to all processes in namespaces; returns their PIDs.

    Args:
        inodes: the namespaces' numbers, each with the time at which somebody first got into it.
    """
    if not inodes:
        return []
    return list(_signal_inside(_since(min(inodes.values())), set(inodes), signal.SIGTERM))


def end_processes(inodes: Collection[int], asked: list[int], patience: Patience) -> bool:
    """Wait for the processes that were asked to end; when the time is over, SIGKILL to all that are inside.

    They may have started others since, also in answer to having been asked: once there was one, none may be found.

    Returns:
        Whether all have ended.
    """
    if not asked:
        return True
    found, places = asked, set(inodes)
    pause = threading.Event()
    while found and not patience.is_over():
        found = [pid for pid in found if signal_if_inside(pid, places, 0)]
        pause.wait(_PAUSE if found else 0)
    kill_patience = Patience(_KILL_TIMEOUT)
    while any([*_signal_inside(chase(), places, signal.SIGKILL)]):
        if kill_patience.is_over():
            return False
        pause.wait(_PAUSE)
    return True


def _since(begun: Beginning) -> Iterator[int]:
    """The PIDs that may have come up since then; all where the PIDs may have started anew."""
    last = last_pid()
    if now() - begun.time < _FRESH and 0 <= last - begun.last_pid <= _FEW:
        return chase(range(begun.last_pid + 1, last + 1), last)
    return chase()


def _signal_inside(pids: Iterator[int], inodes: set[int], number: int) -> Iterator[int]:
    """Signal those that are in a namespace, and their children, which may have left for a namespace of their own."""
    own = os.getpid()
    for pid in pids:
        if pid == own:
            continue
        children = procfs.children(pid) if _is_inside(pid, inodes) else []
        if signal_if_inside(pid, inodes, number):
            yield pid
        for child in children:
            yield from _signal_below(child, number)


def _signal_below(pid: int, number: int) -> Iterator[int]:
    """Signal a process and all below it, whatever namespace it is in."""
    started = process_table.stat(pid)
    children = procfs.children(pid)
    if started is not None and signal_if(pid, lambda pid: _is_same(pid, started), number):
        yield pid
    for child in children:
        yield from _signal_below(child, number)


def _is_same(pid: int, known: process_table.ProcessStat) -> bool:
    found = process_table.stat(pid)
    return found is not None and found.started == known.started and found.state != "Z"


def _is_inside(pid: int, inodes: set[int]) -> bool:
    try:
        return procfs.network_namespace(pid) in inodes
    except OSError:
        return False

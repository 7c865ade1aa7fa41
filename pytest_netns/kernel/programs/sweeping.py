"""Ending processes that are in a namespace but not under its init: those that Python code inside it has started."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from pytest_netns.kernel.programs import leaving
from pytest_netns.kernel.programs.leaving import Identity
from pytest_netns.kernel.programs.watchdog import chase, last_pid, signal_if_inside
from pytest_netns.kernel.system import procfs
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
        started: what Python code has started inside since then, as far as it still ran when its block ended.
    """

    last_pid: int
    time: float
    started: set[Identity]


class Asked(NamedTuple):
    """The processes that were asked to end.

    Attributes:
        inside: the PIDs of those that were inside.
        elsewhere: those that had left for another namespace.
    """

    inside: list[int]
    elsewhere: set[Identity]


def beginning() -> Beginning:
    """This moment."""
    return Beginning(last_pid(), now(), set())


def ask_to_end(inodes: Mapping[int, Beginning]) -> Asked:
    """SIGTERM to all processes in namespaces, and to those that were started inside and have left; returns which.

    Args:
        inodes: the namespaces' numbers, each with the time at which somebody first got into it.
    """
    if not inodes:
        return Asked([], set())
    started = leaving.with_descendants(each for begun in inodes.values() for each in begun.started)
    elsewhere = {each for each in started if leaving.is_elsewhere(each)}
    first = min(inodes.values(), key=lambda begun: begun.time)
    inside = _signal_inside(_since(first), set(inodes), signal.SIGTERM, elsewhere)
    for each in elsewhere:
        leaving.send(each, signal.SIGTERM)
    return Asked(inside, elsewhere)


def end_processes(inodes: Collection[int], asked: Asked, patience: Patience) -> bool:
    """Wait for the processes that were asked to end; when the time is over, SIGKILL to all that are inside, or had left.

    They may have started others since, also in answer to having been asked: once there was one, none may be found.

    Returns:
        Whether all have ended.
    """
    inside, elsewhere = asked
    if not inside and not elsewhere:
        return True
    places = set(inodes)
    pause = threading.Event()
    while (inside or elsewhere) and not patience.is_over():
        inside = [pid for pid in inside if signal_if_inside(pid, places, 0)]
        elsewhere = {each for each in elsewhere if leaving.runs(each)}
        pause.wait(_PAUSE if inside or elsewhere else 0)
    kill_patience = Patience(_KILL_TIMEOUT)
    while True:
        elsewhere = leaving.with_descendants(elsewhere)
        killed = _signal_inside(chase(), places, signal.SIGKILL, elsewhere)
        killed += [pid for pid, started in elsewhere if leaving.send((pid, started), signal.SIGKILL)]
        if not killed:
            return True
        if kill_patience.is_over():
            return False
        pause.wait(_PAUSE)


def _since(begun: Beginning) -> Iterator[int]:
    """The PIDs that may have come up since then; all where the PIDs may have started anew."""
    last = last_pid()
    if now() - begun.time < _FRESH and 0 <= last - begun.last_pid <= _FEW:
        return chase(range(begun.last_pid + 1, last + 1), last)
    return chase()


def _signal_inside(pids: Iterator[int], inodes: set[int], number: int, elsewhere: set[Identity]) -> list[int]:
    """Signal those that are in a namespace; returns them, and adds what is below them in other namespaces to a set."""
    own = os.getpid()
    signalled = []
    for pid in pids:
        if pid == own or not _is_inside(pid, inodes):
            continue
        children = leaving.identities(procfs.children(pid))
        if signal_if_inside(pid, inodes, number):  # and not if it is the number of one of our own threads
            signalled.append(pid)
            elsewhere |= {each for each in leaving.with_descendants(children) if not _is_inside(each[0], inodes)}
    return signalled


def _is_inside(pid: int, inodes: set[int]) -> bool:
    try:
        return procfs.network_namespace(pid) in inodes
    except OSError:
        return False

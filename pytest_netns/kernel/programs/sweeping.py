"""Ending processes that are in a namespace but not under its init: those that Python code inside it has started."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Collection, Iterable, Mapping

from pytest_netns.kernel.programs.watchdog import signal_if_inside

_KILL_TIMEOUT = 2.0  # seconds SIGKILL gets to take effect
_PAUSE = 0.002


def last_pid() -> int:
    """The PID given out last on this machine, proc_loadavg(5)."""
    return int(os.pread(_loadavg(), 200, 0).split()[4])


@functools.cache
def _loadavg() -> int:
    return os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)


def ask_to_end(inodes: Mapping[int, int]) -> list[int]:
    """SIGTERM to all processes in namespaces; returns their PIDs.

    Args:
        inodes: the namespaces' numbers, each with `last_pid` at the time somebody first got into it.
    """
    return _signal(_candidates(min(inodes.values())), set(inodes), signal.SIGTERM) if inodes else []


def end_processes(inodes: Collection[int], asked: list[int], deadline: float) -> None:
    """Wait for the processes that were asked to end; from the deadline on, which is on the monotonic clock, SIGKILL."""
    if not inodes:
        return
    found = _signal(asked, set(inodes), 0)
    pause = threading.Event()
    while found and time.monotonic() < deadline:
        pause.wait(_PAUSE)
        found = _signal(found, set(inodes), 0)
    kill_deadline = time.monotonic() + _KILL_TIMEOUT
    while found and time.monotonic() < kill_deadline:
        # Again over all processes: what was found may have had children since.
        found = _signal(_candidates(0), set(inodes), signal.SIGKILL)
        pause.wait(_PAUSE)


def _candidates(since: int) -> Iterable[int]:
    """The PIDs that may have come up since another was given out; all where they have started anew."""
    now = last_pid()
    if 0 < since <= now:
        return range(since + 1, now + 1)
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _signal(pids: Iterable[int], inodes: set[int], number: int) -> list[int]:
    own = os.getpid()
    return [pid for pid in pids if pid != own and signal_if_inside(pid, inodes, number)]

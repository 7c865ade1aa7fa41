"""The processes in network namespaces, and details of a process, as far as this process may inspect them."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from pytest_netns.kernel.system import procfs

TICKS = os.sysconf("SC_CLK_TCK") if sys.platform == "linux" else 100  # per second


@dataclass(frozen=True)
class ProcessInfo:
    """A process.

    Attributes:
        inside: its PID in its own PID namespace.
        state: the letter of proc(5).
        started: its start time in seconds since boot; the resolution is 1/100 s.
    """

    pid: int
    inside: int
    state: str
    command: str
    started: float

    def __str__(self) -> str:
        return f"{self.pid} ({self.inside} inside) {self.state} {self.command}"


def by_namespace(inodes: Collection[int], is_late: Callable[[], bool]) -> dict[int, list[ProcessInfo]]:
    """The processes in each of these network namespaces, in one pass over /proc; never this process itself.

    Raises:
        TimeoutError: ``is_late`` returned true.
    """
    processes: dict[int, list[ProcessInfo]] = {inode: [] for inode in inodes}
    this_process = os.getpid()
    for pid in procfs.pids():
        if is_late():
            raise TimeoutError("there are too many processes to inspect in time")
        if pid != this_process:
            with contextlib.suppress(OSError):  # it has ended, or may not be inspected
                inode = procfs.network_namespace(pid)
                if inode in processes:
                    processes[inode].append(_read(pid))
    return processes


def _read(pid: int) -> ProcessInfo:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        arguments = [os.fsdecode(part) for part in file.read().rstrip(b"\0").split(b"\0")]
    command = shlex.join(arguments) if arguments != [""] else f"({status['Name']})"
    started = int(procfs.stat(pid)[19]) / TICKS
    inside = int(status.get("NSpid", str(pid)).split()[-1])
    return ProcessInfo(pid, inside, status["State"][:1], command, started)


class ProcessStat(NamedTuple):
    """Fields of proc_pid_stat(5).

    Attributes:
        session: PID of the first process of its session.
        started: clock ticks since boot; together with the PID it identifies a process uniquely.
    """

    pid: int
    state: str
    parent: int
    session: int
    started: int


def stat(pid: int) -> ProcessStat | None:
    """Read a process's stat; None if it has ended and been reaped."""
    try:
        fields = procfs.stat(pid)
    except OSError:
        return None
    return ProcessStat(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]))

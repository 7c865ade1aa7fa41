"""Which processes are in which network namespace, and what the kernel tells of one, as far as this process may look."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from pytest_netns.kernel.system import procfs

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessInfo:
    """A process.

    Attributes:
        inside: its PID as it sees it itself.
        state: the letter of proc(5).
        started: when, in seconds since the machine was started; the kernel tells 1/100 s.
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
        TimeoutError: it had become late.
    """
    found: dict[int, list[ProcessInfo]] = {inode: [] for inode in inodes}
    own = os.getpid()
    for pid in procfs.pids():
        if is_late():
            raise TimeoutError("there are too many processes to look at all in time")
        if pid != own:
            with contextlib.suppress(OSError):  # it has ended, or is not ours to look at
                inode = procfs.network_namespace(pid)
                if inode in found:
                    found[inode].append(_read(pid))
    return found


def _read(pid: int) -> ProcessInfo:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        arguments = [os.fsdecode(part) for part in file.read().rstrip(b"\0").split(b"\0")]
    command = shlex.join(arguments) if arguments != [""] else f"({status['Name']})"
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        started = int(file.read().rpartition(")")[2].split()[19]) / _TICKS
    inside = int(status.get("NSpid", str(pid)).split()[-1])
    return ProcessInfo(pid, inside, status["State"][:1], command, started)


class ProcessStat(NamedTuple):
    """What proc_pid_stat(5) tells of a process.

    Attributes:
        session: PID of the first process of its session.
        started: clock ticks since the machine was started; with the PID it names a process for good.
    """

    pid: int
    state: str
    parent: int
    session: int
    started: int


def stat(pid: int) -> ProcessStat | None:
    """A process's family; None where it has ended and been reaped."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return ProcessStat(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]))

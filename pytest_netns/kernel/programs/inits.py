"""The init process of a namespace, as seen from pytest."""

from __future__ import annotations

import contextlib
import select
import signal
from typing import NamedTuple

from pytest_netns.kernel.system import procfs, syscalls

MOUNT_VIEW, HOST_NAME, PIDS = syscalls.CLONE_NEWNS, syscalls.CLONE_NEWUTS, syscalls.CLONE_NEWPID
_PF_EXITING = 0x4  # include/linux/sched.h; the flags are in proc_pid_stat(5)


class Refusal(NamedTuple):
    """A part of a namespace's view that this environment refused.

    Attributes:
        part: such as ``"PID namespace"`` or ``"own /proc"``.
        reason: why.
    """

    part: str
    reason: str

    @classmethod
    def parse(cls, line: str) -> Refusal:
        """Read a line of the supervisor."""
        part, _, reason = line.partition(": ")
        return cls(part, reason)

    def __str__(self) -> str:
        return f"{self.part}: {self.reason}"


class Init(NamedTuple):
    """The init process of a namespace, seen from pytest.

    Attributes:
        pid: its PID as seen from pytest.
        pidfd: its pidfd.
        refused: the parts that this environment refused.
    """

    pid: int
    pidfd: int
    refused: tuple[Refusal, ...]

    def has(self, *parts: str) -> bool:
        """Whether none of these parts was refused."""
        return not any(refusal.part in parts for refusal in self.refused)

    def has_ended(self) -> bool:
        """Whether it has ended, and with it everything in its PID namespace."""
        return wait_ended(self.pidfd, 0)

    def is_ending(self) -> bool:
        """Whether it has been killed; it ends only once everything in its PID namespace has been reaped."""
        try:
            flags = int(procfs.stat(self.pid)[6])
        except (FileNotFoundError, ProcessLookupError):
            return True
        return bool(flags & _PF_EXITING) or self.has_ended()


def parts_of(init: Init) -> int:
    """The namespaces of an init that can be entered, as CLONE_ flags."""
    parts = 0
    for part, flag in (("mount namespace", MOUNT_VIEW), ("host name", HOST_NAME), ("PID namespace", PIDS)):
        if init.has(part):
            parts |= flag
    return parts


def wait_ended(pidfd: int, timeout: float) -> bool:
    """Whether the process of a pidfd ends within a timeout in seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(timeout, 0) * 1000))


def kill(pidfd: int, number: int) -> None:
    """Signal the process of a pidfd, unless it has ended."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def pid_of(pidfd: int) -> int:
    """The PID of a pidfd's process."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="utf-8") as info:
        return next(int(line.split()[1]) for line in info if line.startswith("Pid:"))

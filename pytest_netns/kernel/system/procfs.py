"""Walking through /proc: which processes there are, and what they have open.

Standard library only, and nothing that takes long to import: the supervisor runs this file outside of the package too.
"""

from __future__ import annotations

import contextlib
import os


def pids() -> list[int]:
    """The PIDs of all processes."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def network_namespace(pid: int) -> int:
    """The number of the network namespace that a process is in.

    Raises:
        OSError: it has ended, or is not ours to look at.
    """
    return os.stat(f"/proc/{pid}/ns/net").st_ino


def open_files(pid: int) -> dict[int, str]:
    """What each of a process's descriptors leads to; nothing where it has ended or is not ours to look at."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found[int(descriptor)] = os.readlink(f"/proc/{pid}/fd/{descriptor}")
    return found


def threads(pid: int) -> list[int]:
    """The numbers of a process's threads; none where it has ended."""
    try:
        return [int(entry) for entry in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def children(pid: int) -> list[int]:
    """The PIDs of a process's children, proc_pid_task_children(5); none where it has ended."""
    found: list[int] = []
    for thread in threads(pid):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", encoding="utf-8") as file:
            found += map(int, file.read().split())
    return found


def descendants(pid: int) -> list[int]:
    """A process's PID, and those of its children, and of theirs."""
    found = [pid]
    for each in found:
        found += children(each)
    return found


def name(pid: int) -> str:
    """The name of the program a process runs."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
            return comm.read().strip()
    except OSError:
        return "ended"


def program(pid: int) -> str:
    """The path of the program a process runs; empty where it has ended or is not ours to look at."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""

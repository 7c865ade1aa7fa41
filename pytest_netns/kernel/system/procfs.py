"""Read /proc: the processes and their open files.

Only standard library modules that are quick to import: the supervisor runs this file outside of the package too.
"""

from __future__ import annotations

import contextlib
import os


def pids() -> list[int]:
    """The PIDs of all processes."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def network_namespace(pid: int) -> int:
    """The inode of a process's network namespace.

    Raises:
        OSError: it has ended, or may not be inspected.
    """
    return os.stat(f"/proc/{pid}/ns/net").st_ino


def stat(pid: int) -> list[str]:
    """The fields of proc_pid_stat(5) that follow the program's name: field 3 of the manual page is the first.

    Raises:
        OSError: the process has been reaped.
    """
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def open_files(pid: int) -> dict[int, str]:
    """The targets of a process's descriptors; empty if it has ended or may not be inspected."""
    files: dict[int, str] = {}
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                files[int(descriptor)] = os.readlink(f"/proc/{pid}/fd/{descriptor}")
    return files


def threads(pid: int) -> list[int]:
    """The ids of a process's threads; empty if it has ended."""
    try:
        return [int(entry) for entry in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def children(pid: int) -> list[int]:
    """The PIDs of a process's children, proc_pid_task_children(5); empty if it has ended."""
    pids: list[int] = []
    for thread in threads(pid):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", encoding="utf-8") as file:
            pids += map(int, file.read().split())
    return pids


def descendants(pid: int) -> list[int]:
    """The PIDs of a process and all its descendants."""
    pids = [pid]
    for parent in pids:
        pids += children(parent)
    return pids


def name(pid: int) -> str:
    """The name of the program a process runs."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
            return comm.read().strip()
    except OSError:
        return "ended"


def program(pid: int) -> str:
    """The path of the program a process runs; empty if it has ended or may not be inspected."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""

"""The processes of the machine as /proc shows them, and waiting for something to happen to them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator


def eventually(condition: Callable[[], object], what: str, timeout: float = 20) -> None:
    """Wait until a condition is true.

    Args:
        condition: called without arguments.
        what: the condition in words, for the error.
        timeout: seconds.
    """
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        pause.wait(0.005)


def pids() -> Iterator[int]:
    """The PIDs of all processes that can be seen."""
    return map(int, filter(str.isdigit, os.listdir("/proc")))


def command_of(pid: int) -> str:
    """The command line of a process, its arguments separated by spaces; empty if it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def stat_of(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on, proc_pid_stat(5); empty if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def own_children(word: str) -> list[int]:
    """The PIDs of this process's children with this word in their command lines."""
    return [pid for pid in pids() if word in command_of(pid) and stat_of(pid)[1:2] == [str(os.getpid())]]


def inside_of(inodes: Iterable[int]) -> set[int]:
    """The other processes whose network namespace has one of these inodes."""
    wanted, found = set(inodes), set()
    for pid in pids():
        try:
            if pid != os.getpid() and os.stat(f"/proc/{pid}/ns/net").st_ino in wanted:
                found.add(pid)
        except OSError:
            continue
    return found

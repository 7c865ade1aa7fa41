"""The process that outlives pytest: it sees how pytest ends, and leaves nothing of what pytest's tests started.

Standard library only, and run outside of the package, see supervisor.py.

pytest sends it words. ``+INODE``: Python code is or was inside the network namespace with this number, so whatever runs in
it when pytest dies is killed. ``=INODE``: a forked copy of pytest may hold a descriptor of it; copies that do are killed
too. ``-INODE``: neither any longer.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable

MAX_MESSAGE = 4096
CONTROLLER_GRACE = 0.5  # seconds a worker gets for its finalizers when the xdist controller has died
SWEEP_ROUNDS = 100
SWEEP_INTERVAL = 10  # milliseconds


class Watched:
    """The numbers of the namespaces pytest has told of."""

    def __init__(self, owner_pid: int) -> None:
        self.entered: set[int] = set()
        self.copied: set[int] = set()
        self._owner_pid = owner_pid
        self._held: dict[int, int] = {}

    def take_notes(self, watch: socket.socket) -> bool:
        """Read all that has been sent; False at the end of the connection."""
        while True:
            try:
                message = watch.recv(MAX_MESSAGE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except ConnectionError:
                return False
            for word in message.decode().split():
                self._take_note(word[0], *(int(number) for number in word[1:].split(":")))
            if not message:
                return False

    def _take_note(self, sign: str, inode: int, descriptor: int = -1) -> None:
        if sign == "-":
            self.entered.discard(inode)
            self.copied.discard(inode)
            if inode in self._held:
                os.close(self._held.pop(inode))
            return
        (self.entered if sign == "+" else self.copied).add(inode)
        with contextlib.suppress(OSError):  # closed by now, so that "-" follows, or pytest is dead already
            held = os.open(f"/proc/{self._owner_pid}/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
            if inode in self._held or os.fstat(held).st_ino != inode:
                os.close(held)
            else:
                self._held[inode] = held


def keep_watch(owner: int, controllers: list[int], watch: socket.socket, supervisor: int) -> None:
    """Until pytest has gone or says goodbye; then nothing of the supervisor's and nothing watched is left.

    Args:
        owner: pidfd of pytest, whose child this process is.
        controllers: pidfds of processes without which pytest must not go on.
        watch: where pytest sends its words.
        supervisor: PID of the other process.
    """
    owner_pid, program = os.getppid(), program_of(os.getpid())  # pytest's program is ours: the same Python
    watched = Watched(owner_pid)
    poll = select.poll()
    for descriptor in (owner, watch.fileno(), *controllers):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if watch.fileno() in ready and not watched.take_notes(watch):
            break
        if owner in ready:
            break
        if ready & set(controllers):
            end_owner(owner)
            break
    watched.take_notes(watch)
    with contextlib.suppress(ProcessLookupError):
        os.kill(supervisor, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(supervisor, 0)
    for _ in range(SWEEP_ROUNDS):
        # pytest may be alive, and inside: it has said goodbye with a lab still open.
        found = sweep(watched.entered, keep=owner_pid) + sweep_copies(watched.copied, program, keep=owner_pid)
        if not found:
            return
        select.poll().poll(SWEEP_INTERVAL)


def end_owner(owner: int) -> None:
    """The xdist controller has died: let the worker's finalizers run, then kill it."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(owner, signal.SIGTERM)
        poll = select.poll()
        poll.register(owner, select.POLLIN)
        if not poll.poll(CONTROLLER_GRACE * 1000):
            signal.pidfd_send_signal(owner, signal.SIGKILL)
            poll.poll()


def sweep(inodes: set[int], keep: int = 0) -> list[int]:
    """Kill every process whose network namespace is one of these; returns their PIDs."""
    if not inodes:
        return []
    return [pid for pid in others(keep) if signal_if_inside(pid, inodes, signal.SIGKILL)]


def sweep_copies(inodes: set[int], program: str, keep: int = 0) -> list[int]:
    """Kill every process that holds a descriptor of one of these namespaces and runs this program; returns their PIDs."""
    if not inodes or not program:
        return []
    links = {f"net:[{inode}]" for inode in inodes}

    def is_copy(pid: int) -> bool:
        return program_of(pid) == program and not links.isdisjoint(open_files(pid))

    return [pid for pid in others(keep) if signal_if(pid, is_copy, signal.SIGKILL)]


def others(keep: int) -> list[int]:
    """The PIDs of all processes but this one and another."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) not in (os.getpid(), keep)]


def signal_if_inside(pid: int, inodes: set[int], number: int) -> bool:
    """Signal a process if its network namespace is one of these; returns whether it was."""
    return signal_if(pid, lambda pid: os.stat(f"/proc/{pid}/ns/net").st_ino in inodes, number)


def signal_if(pid: int, condition: Callable[[int], bool], number: int) -> bool:
    """Signal a process by pidfd if a condition holds before and after that was opened, so that no reused PID is hit."""
    pidfd = -1
    try:
        if not condition(pid):
            return False
        pidfd = os.pidfd_open(pid)
        if not condition(pid):
            return False
        signal.pidfd_send_signal(pidfd, number)
    except OSError:  # ended in between, or not ours to look at
        return False
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    return True


def open_files(pid: int) -> list[str]:
    """What a process's descriptors lead to; empty where it has ended or is not ours to look at."""
    found = []
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return found


def program_of(pid: int) -> str:
    """The path of the program a process runs; empty where it has ended or is not ours to look at."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""

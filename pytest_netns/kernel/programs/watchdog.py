"""The process that outlives pytest: it sees how pytest ends, and leaves nothing of what pytest's tests started.

Standard library only, and run outside of the package, see supervisor.py.

It need not be told which namespaces are pytest's: each has a number in pytest's hub namespace (destruction.py), and the
kernel can be asked for it. What runs in one of them when pytest dies is killed, and so are forked copies of pytest that
hold a descriptor of one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterable, Iterator

TYPE_CHECKING = False  # as in typing, which takes too long to import here
if TYPE_CHECKING or __package__:
    from pytest_netns.kernel.system import procfs
else:
    import procfs

REPLACED = b"replaced"  # what pytest says to a watchdog that is to go without ending anything
CONTROLLER_GRACE = 0.5  # seconds a worker gets for its finalizers when the xdist controller has died
SWEEP_ROUNDS = 100
SWEEP_INTERVAL = 10  # milliseconds
CHASE_ROUNDS = 1000

# A netlink header, a struct rtgenmsg and one attribute, rtnetlink(7): what number has the namespace behind a descriptor?
_QUESTION = struct.Struct("=IHHII Bxxx HHi")
_RTM_NEWNSID, _RTM_GETNSID, _NLM_F_REQUEST, _NETNSA_NSID, _NETNSA_FD = 88, 90, 1, 1, 3
_NOT_ASSIGNED = -1


class Registry:
    """Which namespaces are pytest's.

    Args:
        netlink: a routing netlink socket of pytest's hub namespace.
    """

    def __init__(self, netlink: socket.socket) -> None:
        self._netlink = netlink
        self._sequence = 0
        self._here = os.stat("/proc/self/ns/net").st_ino

    def knows(self, path: str) -> bool:
        """Whether a link below /proc leads to one of them.

        Raises:
            OSError: its process has ended, or is not ours to look at.
        """
        if os.stat(path).st_ino == self._here:
            return False
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._sequence += 1
            question = (_QUESTION.size, _RTM_GETNSID, _NLM_F_REQUEST, self._sequence, 0, 0, 8, _NETNSA_FD, namespace)
            self._netlink.send(_QUESTION.pack(*question))
            while True:
                answer = _QUESTION.unpack_from(self._netlink.recv(4096))
                _, kind, _, sequence, _, _, _, attribute, number = answer
                if sequence == self._sequence:  # else it answers an earlier question, whose reading failed
                    break
        finally:
            os.close(namespace)
        return (kind, attribute) == (_RTM_NEWNSID, _NETNSA_NSID) and number != _NOT_ASSIGNED


def introduce(watch: socket.socket) -> None:
    """Tell pytest which process this is: its PID, with a pidfd."""
    pidfd = os.pidfd_open(os.getpid())
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # pytest is on its way out
        socket.send_fds(watch, [str(os.getpid()).encode()], [pidfd])
    os.close(pidfd)


def keep_watch(
    owner_pid: int, owner: int, controllers: list[int], watch: socket.socket, registry: Registry, supervisor: int
) -> None:
    """Until pytest has gone or says goodbye; then nothing of the supervisor's is left, and nothing in pytest's namespaces.

    Args:
        owner_pid, owner: PID and pidfd of pytest.
        controllers: pidfds of processes without which pytest must not go on.
        watch: pytest's goodbye: its end of the connection is closed.
        supervisor: PID of the other process.
    """
    program = procfs.program(os.getpid())  # pytest's program is ours: the same Python
    poll = select.poll()
    for descriptor in (owner, watch.fileno(), *controllers):
        poll.register(descriptor, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll()}
    if not ready & {owner, watch.fileno()}:
        end_owner(owner)
    with contextlib.suppress(ProcessLookupError):
        os.kill(supervisor, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(supervisor, 0)
    with contextlib.suppress(OSError):
        if watch.recv(len(REPLACED), socket.MSG_DONTWAIT) == REPLACED:
            return
    for _ in range(SWEEP_ROUNDS):
        # pytest may be alive, and inside: it has said goodbye with a lab still open.
        if not sweep(registry, program, keep=owner_pid):
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


def sweep(registry: Registry, program: str, keep: int) -> list[int]:
    """Kill every process that is in one of pytest's namespaces, or runs its program and holds one; returns their PIDs."""

    def is_inside(pid: int) -> bool:
        return registry.knows(f"/proc/{pid}/ns/net")

    def is_copy(pid: int) -> bool:
        if not program or procfs.program(pid) != program:
            return False
        return any(
            registry.knows(f"/proc/{pid}/fd/{descriptor}")
            for descriptor, target in procfs.open_files(pid).items()
            if target.startswith("net:[")
        )

    return [pid for pid in others(keep) if any(signal_if(pid, each, signal.SIGKILL) for each in (is_inside, is_copy))]


def others(keep: int) -> Iterator[int]:
    """The PIDs of all processes but this one and another."""
    return (pid for pid in chase() if pid not in (os.getpid(), keep))


def chase(pids: Iterable[int] | None = None, last: int = 0) -> Iterator[int]:
    """PIDs, all by default, and those that have been given out while the caller looked at them, until there are no more.

    So a process that goes on forking and ending is not missed: where it has gone is looked at next.

    Args:
        pids: where to begin.
        last: the PID that had been given out last then.
    """
    if pids is None:
        last, pids = last_pid(), procfs.pids()
    for _ in range(CHASE_ROUNDS):
        yield from pids
        before, last = last, last_pid()
        if last == before:
            return
        pids = range(before + 1, last + 1) if before < last else procfs.pids()


def last_pid() -> int:
    """The PID given out last, proc_loadavg(5)."""
    return int(os.pread(_loadavg(), 200, 0).split()[4])


@functools.cache
def _loadavg() -> int:
    return os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)


def signal_if_inside(pid: int, inodes: set[int], number: int) -> bool:
    """Signal a process if its network namespace is one of these; returns whether it was."""
    return signal_if(pid, lambda pid: procfs.network_namespace(pid) in inodes, number)


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

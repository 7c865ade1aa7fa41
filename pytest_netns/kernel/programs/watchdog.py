"""The process that outlives pytest: when pytest ends, it ends everything that pytest's tests started.

Standard library only, and run outside of the package, see supervisor.py.

Pytest's namespaces are recognized by their nsid in pytest's hub namespace (destruction.py). Processes in one of them
when pytest ends are killed, and so are forked copies of pytest that
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

REPLACED = b"replaced"  # sent by pytest to a watchdog that must exit without ending anything
CONTROLLER_GRACE = 0.5  # seconds for a worker's finalizers when the xdist controller has died
SWEEP_ROUNDS = 100
SWEEP_INTERVAL = 10  # milliseconds
SCAN_ROUNDS = 1000

# A netlink header, a struct rtgenmsg and one attribute, rtnetlink(7): asks for the nsid of a descriptor's namespace.
_GET_NSID = struct.Struct("=IHHII Bxxx HHi")
_RTM_NEWNSID, _RTM_GETNSID, _NLM_F_REQUEST, _NETNSA_NSID, _NETNSA_FD = 88, 90, 1, 1, 3
_NOT_ASSIGNED = -1


class Registry:
    """The namespaces that belong to pytest.

    Args:
        netlink: a routing netlink socket of pytest's hub namespace.
    """

    def __init__(self, netlink: socket.socket) -> None:
        self._netlink = netlink
        self._sequence = 0
        self._here = os.stat("/proc/self/ns/net").st_ino

    def contains(self, path: str) -> bool:
        """Whether a link below /proc refers to one of them.

        Raises:
            OSError: its process has ended, or may not be inspected.
        """
        if os.stat(path).st_ino == self._here:
            return False
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._sequence += 1
            fields = (_GET_NSID.size, _RTM_GETNSID, _NLM_F_REQUEST, self._sequence, 0, 0, 8, _NETNSA_FD, namespace)
            self._netlink.send(_GET_NSID.pack(*fields))
            while True:
                answer = _GET_NSID.unpack_from(self._netlink.recv(4096))
                _, kind, _, sequence, _, _, _, attribute, number = answer
                if sequence == self._sequence:  # otherwise it answers an earlier request, whose reading failed
                    break
        finally:
            os.close(namespace)
        return (kind, attribute) == (_RTM_NEWNSID, _NETNSA_NSID) and number != _NOT_ASSIGNED


def announce(watch: socket.socket) -> None:
    """Send pytest the PID and pidfd of this process."""
    pidfd = os.pidfd_open(os.getpid())
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # pytest is ending
        socket.send_fds(watch, [str(os.getpid()).encode()], [pidfd])
    os.close(pidfd)


def watch_owner(
    owner_pid: int, owner: int, controllers: list[int], watch: socket.socket, registry: Registry, supervisor: int
) -> None:
    """Wait until pytest ends or closes the connection; then end the supervisor and all processes in pytest's namespaces.

    Args:
        owner_pid, owner: PID and pidfd of pytest.
        controllers: pidfds of processes whose end must end pytest.
        watch: the connection that pytest closes when it is done.
        supervisor: PID of the supervisor.
    """
    program = procfs.program(os.getpid())  # the same Python as pytest's
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
        # pytest may be alive and inside a namespace: it may close the connection with a lab still open.
        if not sweep(registry, program, keep=owner_pid):
            return
        select.poll().poll(SWEEP_INTERVAL)


def end_owner(owner: int) -> None:
    """End a worker whose xdist controller has died: let its finalizers run, then kill it."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(owner, signal.SIGTERM)
        poll = select.poll()
        poll.register(owner, select.POLLIN)
        if not poll.poll(CONTROLLER_GRACE * 1000):
            signal.pidfd_send_signal(owner, signal.SIGKILL)
            poll.poll()


def sweep(registry: Registry, program: str, keep: int) -> list[int]:
    """Kill every process that is in one of pytest's namespaces, or is a copy of pytest that holds one; returns their PIDs."""

    def is_inside(pid: int) -> bool:
        return registry.contains(f"/proc/{pid}/ns/net")

    def is_copy(pid: int) -> bool:
        if not program or procfs.program(pid) != program:
            return False
        return any(
            registry.contains(f"/proc/{pid}/fd/{descriptor}")
            for descriptor, target in procfs.open_files(pid).items()
            if target.startswith("net:[")
        )

    return [
        pid
        for pid in others(keep)
        if any(signal_if(pid, condition, signal.SIGKILL) for condition in (is_inside, is_copy))
    ]


def others(keep: int) -> Iterator[int]:
    """The PIDs of all processes except this one and another."""
    return (pid for pid in scan_pids() if pid not in (os.getpid(), keep))


def scan_pids(pids: Iterable[int] | None = None, last: int = 0) -> Iterator[int]:
    """Yield PIDs (all by default), then those allocated in the meantime, until there are no new ones.

    So a process that keeps forking and exiting is not missed.

    Args:
        pids: the PIDs to start with.
        last: the last PID allocated at that time.
    """
    if pids is None:
        last, pids = last_pid(), procfs.pids()
    for _ in range(SCAN_ROUNDS):
        yield from pids
        before, last = last, last_pid()
        if last == before:
            return
        pids = range(before + 1, last + 1) if before < last else procfs.pids()


def last_pid() -> int:
    """The last PID allocated, proc_loadavg(5)."""
    return int(os.pread(_loadavg(), 200, 0).split()[-1])


@functools.cache
def _loadavg() -> int:
    return os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)


def signal_if_inside(pid: int, inodes: set[int], number: int) -> bool:
    """Signal a process if its network namespace is one of these; returns whether it was."""
    return signal_if(pid, lambda pid: procfs.network_namespace(pid) in inodes, number)


def signal_if(pid: int, condition: Callable[[int], bool], number: int) -> bool:
    """Signal a process by pidfd if a condition holds before and after opening it, so that no reused PID is signalled."""
    pidfd = -1
    try:
        if not condition(pid):
            return False
        pidfd = os.pidfd_open(pid)
        if not condition(pid):
            return False
        signal.pidfd_send_signal(pidfd, number)
    except OSError:  # ended in the meantime, or may not be inspected
        return False
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    return True

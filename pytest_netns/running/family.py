"""Track the processes of a service: the program itself, its descendants, and its daemons."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from pytest_netns.kernel.system import process_table, procfs
from pytest_netns.kernel.system.waiting import Deadline

if TYPE_CHECKING:
    from pytest_netns.kernel.programs.view import View
    from pytest_netns.running.process import Process
    from pytest_netns.running.programs import Programs

_KILL_TIMEOUT = 2.0  # seconds for SIGKILL to take effect
_STOP_TIMEOUT = 1.0  # seconds for SIGSTOP to take effect
_STILL = "tTZX"  # states of proc_pid_stat(5): stopped, or ended

Identity = tuple[int, int]  # PID and start time: a PID alone may be reused


class Family:
    """The processes of a service.

    An orphan, whose parent has ended, belongs to the service if it is in the session that the service started, or if it
    appeared while the service was starting, as daemons do. Later orphans belong to other programs.

    Args:
        programs: everything that runs in its namespace.
    """

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._main: Process | None = None
        self._started = 0
        self._before = {_identity(pid) for pid in self._orphans()}
        self._daemons: set[Identity] = set()
        self._is_starting = True
        self._is_settled = False

    def begin(self, main: Process) -> None:
        """Record the program, which has been started."""
        self._main = main
        stat = process_table.stat(main.pid)
        self._started = 0 if stat is None else stat.started

    def started(self) -> None:
        """The service is ready: later orphans belong to other programs, unless it still has to become a daemon."""
        self._remember_daemons()
        self._is_starting = False
        self._is_settled = bool(self._daemons)

    def pids(self) -> list[int]:
        """The PIDs of all its processes, the program's own first."""
        assert self._main is not None
        if not self._is_starting and not self._is_settled and self._main.poll() == 0:
            self._remember_daemons()
            self._is_settled = True
        pids = procfs.descendants(self._main.pid) if self._main.returncode is None else []
        for orphan in self._orphans():
            if orphan not in pids and self._owns_orphan(orphan):
                pids += procfs.descendants(orphan)
        return pids

    def _remember_daemons(self) -> None:
        """Record the current daemons as permanently its own."""
        for pid in self._orphans():
            if self._may_be_daemon(pid):
                self._daemons.add(_identity(pid))

    def _owns_orphan(self, pid: int) -> bool:
        assert self._main is not None
        stat = process_table.stat(pid)
        if stat is None or pid == self._main.pid:
            return False
        if stat.session == self._main.pid or (pid, stat.started) in self._daemons:
            return True
        return self._is_starting and self._may_be_daemon(pid)

    def _may_be_daemon(self, pid: int) -> bool:
        """Whether an orphan appeared after the service was started, and is in no other program's session."""
        stat = process_table.stat(pid)
        if stat is None or stat.started < self._started or (pid, stat.started) in self._before:
            return False
        others = {process.pid for process in self._programs.processes if process is not self._main}
        return pid not in others and stat.session not in others

    def _orphans(self) -> list[int]:
        """The processes of the namespace whose parent has ended."""
        view = self._programs.view
        if view is None:
            return []
        return procfs.children(view.init.pid) if view.has_pids else _orphans_without_init(view)


def _orphans_without_init(view: View) -> list[int]:
    """The orphans if there is no PID namespace: processes in the network namespace whose parent is not in it."""
    orphans: list[int] = []
    for pid in procfs.pids():
        process = process_table.stat(pid) if pid not in (os.getpid(), view.init.pid) and view.contains(pid) else None
        if process is not None and process.parent != os.getpid() and not view.contains(process.parent):
            orphans.append(pid)
    return orphans


def _identity(pid: int) -> Identity:
    stat = process_table.stat(pid)
    return (pid, 0 if stat is None else stat.started)


class HasPids(Protocol):
    """A group of processes that may change."""

    def pids(self) -> list[int]:
        """Their current PIDs."""
        ...


class Everything:
    """All processes in a namespace: its programs, their descendants, and processes started by Python code inside.

    Args:
        programs: everything that runs there.
    """

    def __init__(self, programs: Programs) -> None:
        self._programs = programs

    def pids(self) -> list[int]:
        """Their PIDs, without the init and the plugin's own helper processes."""
        view = self._programs.spawner()
        init = process_table.stat(view.init.pid)
        ours = {os.getpid(), view.init.pid}
        roots = [pid for pid in procfs.pids() if view.contains(pid)]
        roots += [pid for pid in procfs.children(view.init.pid) if view.has_pids]
        roots += [process.pid for process in self._programs.processes if process.returncode is None]
        pids: dict[int, None] = {}
        for root in roots:
            process = process_table.stat(root)
            if root not in ours and process is not None and (init is None or process.parent != init.parent):
                pids.update(dict.fromkeys(procfs.descendants(root)))
        return [pid for pid in pids if pid not in ours]


class Held:
    """Processes held by pidfd, since their relation is lost once their parent has ended (context manager)."""

    def __init__(self, family: HasPids) -> None:
        self._family = family
        self._pidfds: dict[Identity, int] = {}

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *exception: object) -> None:
        for pidfd in self._pidfds.values():
            os.close(pidfd)
        self._pidfds.clear()

    def look(self) -> list[int]:
        """Look for new processes; returns their pidfds."""
        new: list[int] = []
        for pid in self._family.pids():
            identity = _identity(pid)
            if identity[1] and identity not in self._pidfds:
                with contextlib.suppress(OSError):
                    pidfd = os.pidfd_open(pid)
                    if _identity(pid) != identity:  # it has ended, and its PID was reused
                        os.close(pidfd)
                        continue
                    self._pidfds[identity] = pidfd
                    new.append(pidfd)
        return new

    def send(self, number: int) -> None:
        """Signal all known processes."""
        for pidfd in self._pidfds.values():
            _send(pidfd, number)

    def stop_all(self) -> None:
        """Send SIGSTOP to all and wait until they have stopped; repeat until there are no new ones, which may have been forked."""
        deadline = Deadline(_STOP_TIMEOUT, last=0.005)
        self.send(signal.SIGSTOP)
        while True:
            new = self.look()
            for pidfd in new:
                _send(pidfd, signal.SIGSTOP)
            stopped = all(
                process is None or process.state in _STILL for process in map(process_table.stat, self._pids())
            )
            if (stopped and not new) or deadline.is_over():
                return
            if not stopped:
                deadline.pause()

    def _pids(self) -> list[int]:
        return [pid for pid, _ in self._pidfds]

    def wait(self, deadline: Deadline) -> bool:
        """Wait for all to end, including new ones; returns whether they have."""
        while True:
            self.look()
            if not any(self._running()):
                return True
            if deadline.is_over():
                return False
            poll = select.poll()
            for pidfd in self._running():
                poll.register(pidfd, select.POLLIN)
            poll.poll(deadline.next_pause() * 1000)

    def kill(self) -> bool:
        """Kill all and wait until they have ended; returns whether they have."""
        deadline = Deadline(_KILL_TIMEOUT, last=0.01)
        while not deadline.is_over():
            self.stop_all()
            self.send(signal.SIGKILL)
            if self.wait(Deadline(min(deadline.remaining(), 0.05))):
                return True
        return False

    def _running(self) -> Iterator[int]:
        poll = select.poll()
        for pidfd in self._pidfds.values():
            poll.register(pidfd, select.POLLIN)
        ended = {pidfd for pidfd, _ in poll.poll(0)}
        return (pidfd for pidfd in self._pidfds.values() if pidfd not in ended)


def _send(pidfd: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)

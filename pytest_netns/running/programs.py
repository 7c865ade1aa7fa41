"""Programs: everything that runs in one namespace, and LabPrograms, everything that runs in a lab."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_netns.errors import LabClosedError, fails_as
from pytest_netns.kernel.programs import inits, leaving, supervision, sweeping
from pytest_netns.kernel.programs.view import View
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import forking, interrupts
from pytest_netns.running import resolving
from pytest_netns.running.gate import Gate
from pytest_netns.running.records import Records

if TYPE_CHECKING:
    from pytest_netns.running.calls import Call
    from pytest_netns.running.halting import BeginFault, Healable
    from pytest_netns.running.process import Process
    from pytest_netns.running.service import Service


_labs: weakref.WeakSet[LabPrograms] = weakref.WeakSet()


class _InUse:
    """See `Programs.in_use`; a function with contextlib takes 1 us longer, at every program and call."""

    __slots__ = ("_gate", "_name")

    def __init__(self, gate: Gate, name: str) -> None:
        self._gate = gate
        self._name = name

    @interrupts.uninterrupted
    def __enter__(self) -> None:
        if not self._gate.enter():
            raise LabClosedError(self._name)

    @interrupts.uninterrupted
    def __exit__(self, *error: object) -> None:
        self._gate.leave()


class LabPrograms:
    """Everything that runs in the namespaces of a lab.

    Args:
        lock: held while an init is created and the files of its namespace are written.
        begin_fault: called to register a fault of programs that can be undone.

    Attributes:
        members: the programs of each namespace.
        gate: shut when the lab is closed.
        records: their outputs and failures for the failure report.
        entered: the namespaces that Python code has entered, by inode, each with its first entry.
    """

    def __init__(self, lock: threading.RLock, begin_fault: BeginFault) -> None:
        self.lock = lock
        self.begin_fault = begin_fault
        self.members: list[Programs] = []
        self.records = Records()
        self.gate = Gate()
        self.entered: dict[int, sweeping.FirstEntry] = {}
        self._is_copy = False
        _labs.add(self)

    def add(self, network: NetworkNamespace, *, owner: object, write_files: Callable[[View], None]) -> Programs:
        """Add a namespace; the arguments are those of `Programs`."""
        programs = Programs(network, self, owner=owner, write_files=write_files)
        self.members.append(programs)
        return programs

    @property
    def swept(self) -> dict[int, sweeping.FirstEntry]:
        """The entered namespaces in which every process ends with the lab; none in a forked child, as they are its parent's."""
        return {} if self._is_copy else self.entered

    def forget(self) -> None:
        """In a forked child: forget programs, which belong to the parent and must not be ended from here."""
        self._is_copy = True
        self.entered.clear()
        for programs in self.members:
            programs.forget()


class Programs:
    """Everything that runs in a namespace: programs, services, Python calls.

    Args:
        network: the namespace.
        lab: everything that runs in its lab.
        owner: the handle that processes return as their ``namespace``; otherwise unused.
        write_files: updates the namespace's own files, such as /etc/hosts.

    Attributes:
        name: the namespace's.
        inode: the inode of the network namespace.
        enter: moves the calling thread into it.
        processes: those that run or have not been reaped.
        services: all, including those that have ended.
        calls: running Python calls.
        frozen: undoes `halting.freeze`; None unless frozen.
        view: the init and the thread that starts programs; None before the first use.
    """

    def __init__(
        self, network: NetworkNamespace, lab: LabPrograms, *, owner: object, write_files: Callable[[View], None]
    ) -> None:
        self.name = network.name
        self.inode = network.inode
        self.lab = lab
        self.owner: Any = owner
        self.processes: list[Process] = []
        self.services: list[Service] = []
        self.calls: list[Call] = []
        self.view: View | None = None
        self.frozen: Healable | None = None
        self.enter = network.enter
        self._network = network
        self._write_files = write_files
        self._of_parent: list[object] = []

    @property
    def network(self) -> NetworkNamespace:
        """The network namespace, which is open.

        Raises:
            LabClosedError: the lab is closed.
        """
        return self._network.opened()

    @property
    def is_open(self) -> bool:
        """Whether the lab has not been closed."""
        return not self.lab.gate.is_shut

    def in_use(self) -> _InUse:
        """A block in which no other thread can close the lab.

        Raises:
            LabClosedError: it is closed or being closed.
        """
        return _InUse(self.lab.gate, self.name)

    @fails_as("start the init process")
    @interrupts.uninterrupted
    def spawner(self) -> View:
        """The view that starts programs, created on first use."""
        interrupts.guard_raising()
        network = self.network
        with self.in_use(), self.lab.lock:
            if self.view is None:
                view = View(network)
                if not view.has_pids:
                    self.note_entered()
                self.view = view
            self._write_files(self.view)
            return self.view

    def note_entered(self) -> None:
        """Record that processes here may not be under the init: Python code enters, or there are no PID namespaces."""
        if self.inode in self.lab.entered:
            return
        with self.in_use():
            if not self.network.is_adopted:  # other programs run there too
                self.lab.entered[self.inode] = sweeping.first_entry()
            supervision.supervisor()  # its watchdog ends processes inside if this process dies
            resolving.register(self)

    def note_started(self, begin: leaving.Moment | None = None) -> None:
        """Record the processes that the calling thread has started since a `leaving.moment`: they may leave the namespace."""
        begun = self.lab.entered.get(self.inode)
        if begun is not None:
            begun.started.update(leaving.started_since(begin))

    def enter_for_python(self) -> None:
        """Move the calling thread permanently into the namespace's network and mounts."""
        with self.in_use():
            self.spawner().enter_for_python()

    def forget(self) -> None:
        """In a forked child: forget the parent's processes."""
        # Kept referenced, since Python warns when a Popen of a running program is deleted.
        self._of_parent += [*self.processes, *self.services, *self.calls]
        self.processes, self.services, self.calls = [], [], []
        view, self.view = self.view, None
        if view is not None:
            view.abandon()

    def refused_parts(self) -> tuple[inits.Refusal, ...]:
        """The parts that the environment refused programs here."""
        return self.view.init.refused if self.view is not None else ()


def _forget_in_child() -> None:
    for lab in _labs:
        lab.forget()


forking.in_child(_forget_in_child)

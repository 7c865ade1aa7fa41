"""Lab: creates namespaces and the links between them, owns them, and removes them all."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, KernelError, fails_as
from pytest_netns.kernel.spaces import destruction
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import interrupts, waiting
from pytest_netns.lab.captures import Captures
from pytest_netns.lab.hosts import Hosts
from pytest_netns.lab.lab_links import LabLinks
from pytest_netns.lab.namespace import Namespace
from pytest_netns.lab.service_methods import ServiceMethods
from pytest_netns.running import ending, resolving
from pytest_netns.values import IPAddress
from pytest_netns.values.choices import ENGINES

if TYPE_CHECKING:
    from pytest_netns.packets.capture import Capture
    from pytest_netns.topology import Topology

HOST = "host"


class Lab(ServiceMethods):
    """A set of namespaces that are closed together.

    Args:
        owner: the lab's owner, such as the test's node id; shown in reports.
        engine: what impairs links: the kernel's ``"netem"``, the ``"userspace"`` wire, or ``"auto"``: netem if available.

    Attributes:
        names: the host names that resolve in its namespaces.
        notes: descriptions of the rules and settings in force, for drawings and reports.
        programs: everything that runs in its namespaces.
        links: all interfaces of its namespaces.
        faults: the faults injected into its network.
        seeds: seeds for random numbers, drawn from ``--netns-seed``.
        captures: the packets that are being captured.
    """

    __slots__ = (
        "__weakref__", "_built", "_closer", "_closing", "_undo_of", "captures", "names",
    )  # fmt: skip

    def __init__(self, owner: str = "", *, engine: str = "auto") -> None:
        super().__init__(owner, values.parse_choice(engine, ENGINES, "engine of impairments"))
        self._built: list[Topology] = []
        self._undo_of: dict[str, Callable[[], None]] = {}  # removes a namespace
        self._closer = 0  # the id of the thread that closes it
        self._closing = threading.Lock()  # held while it is closed
        self.links = LabLinks(self._lock)
        self.names = Hosts()
        self.captures = Captures(lambda: [each.programs.network for each in self], self._drops)

    # -- namespaces -----------------------------------------------------------------------------------

    @property
    def host(self) -> Namespace:
        """The namespace called "host", created on first use: the machine in the middle of the picture, never the real host."""
        return self._namespaces.get(HOST) or self.add_namespace(HOST)

    @fails_as("add namespace")
    @interrupts.uninterrupted
    def add_namespace(
        self,
        name: str,
        *,
        hostname: str | None = None,
        private: str | Iterable[str] = (),
        files: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> Namespace:
        """Create an isolated network with only a loopback interface, which is up.

        Args:
            name: 1 to 63 characters.
            hostname: the host name its programs see, such as ``"ns-2.example.com"``; default: the namespace's name.
            private: directories such as ``"/run"`` of which its programs get a private, initially empty copy.
            files: paths and contents of files that only its programs see: ``{"/etc/frr/frr.conf": text}``.

        Raises:
            InvalidTopologyError: the name is invalid or taken.
            UnavailableError: this user may not create network namespaces on this machine.
        """
        interrupts.guard_raising()
        values.parse_name(name)
        directories = [values.parse_private(path) for path in ([private] if isinstance(private, str) else private)]
        texts = values.parse_files(files) if files else ()
        with self._lock:
            self.check_open()
            if name in self._namespaces:
                raise InvalidTopologyError(f"cannot add namespace {name!r}: this lab already has one of that name")
            if hostname is not None:
                self.names.check_hostname(hostname)
            hub = destruction.hub()
            try:
                kernel = NetworkNamespace.create(name, self.captures.add_first)
                try:
                    watched = hub.watch(kernel, self.owner)
                except BaseException:
                    kernel.close()
                    raise
            except BaseException:
                self.captures.remove(name)
                raise
            namespace = self._enlist(kernel, hostname or "", watched)
            if directories or texts:
                namespace.files.add(directories, texts)
        return namespace

    def _enlist(self, kernel: NetworkNamespace, hostname: str, watched: destruction.Watched | None = None) -> Namespace:
        """Make a namespace a member until the lab is closed."""
        namespace = Namespace(self, kernel, self.programs, self.links)

        def undo() -> None:
            if watched is not None:
                watched.closed = waiting.now()
            resolving.unregister(namespace.programs)
            namespace.close_rules()
            kernel.close()

        self._undo.append(undo)
        self._undo_of[kernel.name] = undo
        self._namespaces[kernel.name] = namespace
        self.names.add_namespace(kernel, hostname)
        return namespace

    def remove_namespace(self, namespace: Namespace | str) -> None:
        """Remove a namespace from the lab: end its programs, delete its interfaces, their peers and its host names.

        Its programs get SIGTERM and, after half a second, SIGKILL. The name can be used again afterwards.

        Args:
            namespace: the namespace or its name.
        """
        removed = self[namespace] if isinstance(namespace, str) else namespace
        errors: list[Exception] = []
        with self._lock:
            self.check_member(removed)
            ending.remove(self.programs, removed.programs, errors)
            if not removed.programs.network.is_adopted:
                for interface in removed.interfaces.values():
                    with contextlib.suppress(KernelError):  # lo, and interfaces that the kernel created
                        interface.delete()  # the kernel would delete it and its peer only some time later
            self.captures.leave(removed.name)
            undo = self._undo_of.pop(removed.name)
            self._undo.remove(undo)
            undo()
            self.links.remove(removed.links)
            self.names.remove_namespace(removed.name)
            del self._namespaces[removed.name]
        if errors:
            raise ExceptionGroup(f"cannot remove namespace {removed.name!r} cleanly", errors)

    @fails_as("adopt namespace")
    def adopt(self, name: str, *, pid: int | None = None, path: str | os.PathLike[str] | None = None) -> Namespace:
        """Add an existing network namespace, such as a container's, to this lab.

        Links, addresses, routes, NAT and faults work in it as in any other. When the lab is closed, everything the lab
        added is removed, and what it removed is restored. Programs that already ran there are left alone. Requires
        root, or the same user namespace.

        Args:
            name: its name in this lab.
            pid: the PID of a process in it.
            path: its path, such as ``"/run/netns/web"``; instead of ``pid``.

        Raises:
            InvalidTopologyError: it is not a network namespace, is the one pytest runs in, or is already a member.
            UnavailableError: this process may not enter it.
        """
        from pytest_netns.kernel.spaces import adopted

        values.parse_name(name)
        place = adopted.path_of(name, pid, path)
        with self._lock:
            self.check_open()
            if name in self._namespaces:
                raise InvalidTopologyError(f"cannot adopt namespace {name!r}: this lab already has one of that name")
            kernel = adopted.AdoptedNamespace.adopt(name, place, self.captures.add_first)
            known = {each.programs.inode: each.name for each in self}
            if kernel.inode in known:
                kernel.close()
                raise InvalidTopologyError(
                    f"cannot adopt namespace {name!r}: {place} is already {known[kernel.inode]!r} of this lab"
                )
            return self._enlist(kernel, "")

    def add_hostname(self, hostname: str, target: Namespace | str | IPAddress) -> None:
        """Add a host name for a namespace, which resolves for everything that runs in this lab.

        Args:
            hostname: the name, such as ``"api.example.com"``.
            target: a namespace, its name, or an address.
        """
        self.check_open()
        if isinstance(target, str) and target in self:
            target = self[target]
        if isinstance(target, Namespace):
            self.check_member(target)
            self.names.add(hostname, target.name)
        else:
            self.names.add(hostname, values.parse_address(target, "target of a host name"))

    def build(self, topology: Topology) -> None:
        """Add all of a topology, which was validated when it was created.

        Raises:
            InvalidTopologyError: a name in it is already used in this lab.
        """
        from pytest_netns.lab import building

        self.check_open()
        with self.names.batch(), self.links.batch():
            building.build(self, topology)
        self._built.append(topology)

    # -- observing ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def capture(self) -> Generator[Capture]:
        """Capture the packets that all interfaces of all namespaces send and receive during the block; readable after it::

        with lab.capture() as packets:
            red.run("ping -c1 192.168.15.2")
        assert any(packet.protocol == "arp" for packet in packets)
        """
        with self._lock:
            self.check_open()
            capture = self.captures.start()
        try:
            yield capture
        finally:
            self.captures.end(capture)

    def draw(self, format: str = "text") -> str:
        """Draw the network in its present state.

        Args:
            format: ``"text"``, ``"mermaid"`` or ``"svg"``.
        """
        from pytest_netns.drawing import Sketch, draw
        from pytest_netns.lab import states

        self.check_open()
        return draw(Sketch.from_states(states.networks(self)), format)

    def __repr__(self) -> str:
        return f"<Lab {', '.join(self._namespaces) or 'empty'}{' (closed)' if self._closed else ''}>"

    # -- closing --------------------------------------------------------------------------------------

    @interrupts.uninterrupted
    def close(self) -> None:
        """End all processes and remove all namespaces; idempotent.

        Running processes get SIGTERM and, half a second later (for all namespaces together), SIGKILL. Everything is
        undone even if part of it fails; errors are raised at the end, several as an `ExceptionGroup`. Other threads
        that use the lab meanwhile get a `LabClosedError`; a second call from another thread waits for the first.
        """
        interrupts.guard_raising()
        with self._lock:
            first = not self._closed
            if first:
                self._closed, self._closer = True, threading.get_ident()
                self._closing.acquire()
        if not first:
            if self._closer != threading.get_ident():
                with self._closing:  # held by the closing thread until it has finished
                    pass
            return
        try:
            self._undo_all()
        finally:
            self._closing.release()

    def _undo_all(self) -> None:
        errors: list[Exception] = []
        interrupted: BaseException | None = None
        steps: list[Callable[[], object]] = [
            lambda: ending.end_processes(self.programs, errors),
            lambda: ending.kill_processes(self.programs),
        ]
        steps.append(self.captures.stop)
        for step in (*steps, *reversed(self._undo)):
            try:
                step()
            except Exception as error:
                errors.append(error)
            except BaseException as interrupt:  # Ctrl-C: the rest is undone all the same
                interrupted = interrupt
        self._undo.clear()
        self._undo_of.clear()
        if interrupted is not None:
            for each in errors:
                interrupted.add_note(str(each))
            raise interrupted
        if len(errors) > 1:
            raise ExceptionGroup(f"cannot close lab{f' of {self.owner}' if self.owner else ''} cleanly", errors)
        if errors:
            raise errors[0]

    def __enter__(self) -> Lab:
        self.check_open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def has_built(self, topology: Topology) -> bool:
        """Whether this Topology object was built in it."""
        return topology in self._built

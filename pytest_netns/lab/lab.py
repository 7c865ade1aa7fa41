"""Lab: makes namespaces and what joins them, owns them, and undoes it all."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, KernelError, fails_as
from pytest_netns.kernel.spaces import adopted, destruction
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import interrupts
from pytest_netns.lab.cables import Cables
from pytest_netns.lab.captures import Captures
from pytest_netns.lab.hosts import Hosts
from pytest_netns.lab.links import LabLinks
from pytest_netns.lab.namespace import Namespace
from pytest_netns.parts.impairment import ENGINES
from pytest_netns.running import ending, resolving
from pytest_netns.running.process import Command
from pytest_netns.running.programs import LabPrograms
from pytest_netns.running.readiness import NOT_YET, Ready, RetryOn
from pytest_netns.running.service import Service
from pytest_netns.values import IPAddress

if TYPE_CHECKING:
    from pytest_netns.packets.capture import Capture
    from pytest_netns.topology import Topology

T = TypeVar("T")

HOST = "host"
BRIDGES = ("bridge", "openvswitch")
_NO_BRIDGE_FILTERS = {f"net.bridge.bridge-nf-call-{filter_}": 0 for filter_ in ("iptables", "ip6tables", "arptables")}


class Lab(Cables):
    """A set of namespaces that belong together, and end together.

    Args:
        owner: who it belongs to, such as the test's node id; named in reports.
        engine: what impairs links: ``"netem"`` of the kernel, the ``"userspace"`` wire, or ``"auto"``: netem where there is one.

    Attributes:
        names: which name leads where, for everything that runs in its namespaces.
        notes: the words of whatever is in force, for drawings and reports.
        programs: everything that runs in its namespaces.
        links: all interfaces of its namespaces.
        faults: what is being done to its network on purpose.
        seeds: of random numbers, drawn from ``--netns-seed``.
        captures: the packets that are being captured.
    """

    __slots__ = (
        "__weakref__", "_built", "_closer", "_closing", "_lock", "_undo_of", "captures", "names", "owner", "programs",
    )  # fmt: skip

    def __init__(self, owner: str = "", *, engine: str = "auto") -> None:
        super().__init__(owner, values.parse_choice(engine, ENGINES, "engine of impairments"))
        self.owner = owner
        self._built: list[Topology] = []
        self._undo_of: dict[str, Callable[[], None]] = {}  # what undoes a namespace
        self._closer = 0  # the thread that closes it
        self._closing = threading.Lock()  # held while it is closed
        self._lock = threading.RLock()
        self.programs = LabPrograms(self._lock, self.faults.begin)
        self.links = LabLinks(self._lock)
        self.names = Hosts()
        self.captures = Captures(lambda: [each.programs.network for each in self], self.faults.drops)

    # -- making ---------------------------------------------------------------------------------------

    @property
    def host(self) -> Namespace:
        """The namespace called "host", made on first use: the machine in the middle of the picture, never the real one."""
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
        """Make an isolated network with nothing but a loopback interface, which is up.

        Args:
            name: 1 to 63 characters.
            hostname: the host name its programs see, such as ``"ns-2.example.com"``; its name where left out.
            private: directories such as ``"/run"`` that its programs have for themselves, empty at first.
            files: paths and texts of files that only its programs see: ``{"/etc/frr/frr.conf": text}``.

        Raises:
            InvalidTopologyError: the name is invalid or taken.
            UnavailableError: this machine does not let this user make network namespaces.
        """
        interrupts.guard_raising()
        values.parse_name(name)
        directories = [values.parse_private(path) for path in ([private] if isinstance(private, str) else private)]
        texts = values.parse_files(files) if files else ()
        with self._lock:
            self.check_open()
            if name in self._namespaces:
                raise InvalidTopologyError(f"cannot add namespace {name!r}: this lab has one of that name already")
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
        """Make a namespace a member; it is left when the lab is closed."""
        namespace = Namespace(self, kernel, self.programs, self.links)

        def undo() -> None:
            if watched is not None:
                watched.closed = time.monotonic()
            resolving.unregister(namespace.programs)
            namespace.packet_rules.close()
            kernel.close()

        self._undo.append(undo)
        self._undo_of[kernel.name] = undo
        self._namespaces[kernel.name] = namespace
        self.names.add_namespace(kernel, hostname)
        return namespace

    def remove_namespace(self, namespace: Namespace | str) -> None:
        """Take a namespace out of the lab: its programs end, its interfaces, their peers and its names are gone.

        Its programs get SIGTERM, half a second, then SIGKILL. Another one of its name may be added afterwards.

        Args:
            namespace: which one, or its name.
        """
        removed = self[namespace] if isinstance(namespace, str) else namespace
        errors: list[Exception] = []
        with self._lock:
            self.check_member(removed)
            ending.remove(self.programs, removed.programs, errors)
            if not removed.programs.network.is_adopted:
                for interface in removed.interfaces.values():
                    with contextlib.suppress(KernelError):  # lo, and what the kernel itself has made
                        interface.delete()  # the kernel would free it, and its peer, some time after this
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
        """Have a network namespace that somebody else has made, such as a container's, be a member of this lab.

        Cables, addresses, routes, NAT and faults work on it as on any. When the lab is closed, what the lab added is taken away, and
        what was there and is missing is put back. Programs that were there are left alone. It takes root, or to be in the
        same user namespace.

        Args:
            name: what the lab calls it.
            pid: of a process that is in it.
            path: that names it, such as ``"/run/netns/web"``; instead of ``pid``.

        Raises:
            InvalidTopologyError: there is no network namespace, it is the one pytest is in, or a member already.
            UnavailableError: this process may not enter it.
        """
        values.parse_name(name)
        place = adopted.path_of(name, pid, path)
        with self._lock:
            self.check_open()
            if name in self._namespaces:
                raise InvalidTopologyError(f"cannot adopt namespace {name!r}: this lab has one of that name already")
            kernel = adopted.AdoptedNamespace.adopt(name, place, self.captures.add_first)
            known = {each.programs.inode: each.name for each in self}
            if kernel.inode in known:
                kernel.close()
                raise InvalidTopologyError(
                    f"cannot adopt namespace {name!r}: {place} is {known[kernel.inode]!r} of this lab already"
                )
            return self._enlist(kernel, "")

    def add_hostname(self, hostname: str, target: Namespace | str | IPAddress) -> None:
        """Have a further name lead to a namespace, for everything that runs in this lab.

        Args:
            hostname: such as ``"api.example.com"``.
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
        """Add all of a topology, which was validated as a whole when it was made.

        Raises:
            InvalidTopologyError: something of that name is in this lab already.
        """
        from pytest_netns.lab import building

        self.check_open()
        with self.names.held(), self.links.together():
            building.build(self, topology)
        self._built.append(topology)

    # -- reading --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def capture(self) -> Generator[Capture]:
        """The packets that all interfaces of all namespaces send and receive during the block, and after it::

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

    def start_all(
        self,
        commands: Mapping[Namespace, Command],
        *,
        ready: Ready | None = None,
        timeout: float = 10,
        **options: Any,
    ) -> dict[Namespace, Service]:
        """Start a service in each of several namespaces, and only then wait until all are ready.

        For clusters none of whose members is ready alone::

            members = lab.start_all({each: ["etcd", "--name", each.name] for each in lab}, ready=2379)

        Args:
            commands: what to run in which namespace.
            ready: what each of them is waited for, as for `Namespace.start`.
            timeout: seconds for all together.
            options: of `subprocess.Popen`, for each.

        Returns:
            The services, by namespace.

        Raises:
            NotReadyError: one ended first, or was not ready in time; the others have been stopped.
        """
        from pytest_netns.running import service

        for namespace in commands:
            self.check_member(namespace)
        pairs = [(namespace.programs, command) for namespace, command in commands.items()]
        started = service.start_all(pairs, ready=ready, timeout=timeout, options=options)
        return dict(zip(commands, started, strict=True))

    def wait_until(self, condition: Callable[[], T], timeout: float = 5, *, retry_on: RetryOn = NOT_YET) -> T:
        """Poll a condition until it is true; returns its result::

            lab.wait_until(lambda: "lease" in server.output)
            lab.wait_until(lambda: red.run("curl -sf http://blue/"))

        Args:
            condition: called without arguments.
            timeout: seconds.
            retry_on: the exceptions that count as not yet, one or several: a command that fails or takes too long, and what
                sockets raise, unless said otherwise. Anything else it raises is raised here.

        Raises:
            NotReadyError: it was not true in time; shows its last result, or the failed command with its output.
            NetnsError: an event loop is running in this thread, and would stand still; see `wait_until_async`.
        """
        from pytest_netns.running import waiting

        return waiting.until(self.programs.records, condition, timeout, retry_on)

    async def wait_until_async(
        self, condition: Callable[[], T | Awaitable[T]], timeout: float = 5, *, retry_on: RetryOn = NOT_YET
    ) -> T:
        """As `wait_until`, for asyncio: the event loop goes on between two questions.

        Args:
            condition: a function, or a coroutine function, which is awaited.
            timeout: seconds.
            retry_on: as for `wait_until`.
        """
        from pytest_netns.running import waiting

        return await waiting.until_async(self.programs.records, condition, timeout, retry_on)

    def draw(self, format: str = "text") -> str:
        """A drawing of the network as it is now.

        Args:
            format: ``"text"``, ``"mermaid"`` or ``"svg"``.
        """
        from pytest_netns.drawing import Sketch, draw
        from pytest_netns.lab import states

        self.check_open()
        return draw(Sketch.from_states(states.networks(self)), format)

    def __repr__(self) -> str:
        return f"<Lab {', '.join(self._namespaces) or 'empty'}{' (closed)' if self._closed else ''}>"

    # -- ending ---------------------------------------------------------------------------------------

    @interrupts.uninterrupted
    def close(self) -> None:
        """End all processes and free all namespaces; idempotent.

        What still runs gets SIGTERM, half a second for all namespaces together, then SIGKILL. Everything is undone even
        if some of it fails; the errors are raised at the end, several as an `ExceptionGroup`. What other threads do in the
        lab meanwhile ends with a `LabClosedError`; a second call from another thread waits for the first.
        """
        interrupts.guard_raising()
        with self._lock:
            first = not self._closed
            if first:
                self._closed, self._closer = True, threading.get_ident()
                self._closing.acquire()
        if not first:
            if self._closer != threading.get_ident():
                with self._closing:  # which the thread that closes it holds until it has
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
            except BaseException as interrupt:  # Ctrl-C: what is left to undo is undone all the same
                interrupted = interrupt
        self._undo.clear()
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
        """Whether this very topology was built in it."""
        return topology in self._built

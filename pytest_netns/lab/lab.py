"""Lab: makes namespaces and what joins them, owns them, and undoes it all."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, KernelError, LabClosedError, NetnsError, fails_as
from pytest_netns.faults.faults import Faults
from pytest_netns.faults.seeds import Seeds
from pytest_netns.kernel.spaces import adopted, destruction
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import interrupts
from pytest_netns.lab import connecting
from pytest_netns.lab.connecting import End
from pytest_netns.lab.hosts import Hosts
from pytest_netns.lab.interface import AddressArgument, Bridge, VethPair, handle, join, parse_addresses
from pytest_netns.lab.links import LabLinks, Link, Links
from pytest_netns.lab.namespace import Namespace
from pytest_netns.lab.notes import Notes
from pytest_netns.parts.impairment import ENGINES, Impairment
from pytest_netns.running import ending, resolving
from pytest_netns.running.process import Command
from pytest_netns.running.programs import LabPrograms
from pytest_netns.running.readiness import NOT_YET, Ready, RetryOn
from pytest_netns.running.service import Service
from pytest_netns.values import IPAddress, IPInterface

if TYPE_CHECKING:
    from pytest_netns.faults.cuts import Cut
    from pytest_netns.faults.impair import Impairments
    from pytest_netns.faults.nemesis import FaultStarter, Nemesis
    from pytest_netns.lab.openvswitch import OpenVSwitch, SwitchDaemons
    from pytest_netns.packets.capture import Capture
    from pytest_netns.topology import Topology

T = TypeVar("T")

HOST = "host"
BRIDGES = ("bridge", "openvswitch")
_NO_BRIDGE_FILTERS = {f"net.bridge.bridge-nf-call-{filter_}": 0 for filter_ in ("iptables", "ip6tables", "arptables")}


class Lab:
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
    """

    __slots__ = (
        "__weakref__", "_built", "_captures", "_closed", "_closer", "_engine", "_gone", "_impairments", "_lock", "_namespaces",
        "_recording", "_switches", "_undo", "_undo_of", "faults", "links", "names", "notes", "owner", "programs", "seeds",
    )  # fmt: skip

    def __init__(self, owner: str = "", *, engine: str = "auto") -> None:
        self.owner = owner
        self._engine = values.parse_choice(engine, ENGINES, "engine of impairments")
        self._impairments: Impairments | None = None
        self._namespaces: dict[str, Namespace] = {}
        self._built: list[Topology] = []
        self._undo: list[Callable[[], None]] = []
        self._switches: dict[str, SwitchDaemons] = {}
        self._undo_of: dict[str, Callable[[], None]] = {}  # what undoes a namespace
        self._closed = False
        self._closer = 0  # the thread that closes it
        self._gone = threading.Event()
        self._lock = threading.RLock()
        self.faults = Faults()
        self.programs = LabPrograms(self._lock, self.faults.begin)
        self.links = LabLinks(self._lock)
        self.names = Hosts()
        self._captures: list[Capture] = []
        self._recording: Capture | None = None
        self.notes = Notes()
        self.seeds = Seeds(owner)
        self.notes.add(self.faults)
        self.notes.add(self.seeds)

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
        texts = values.parse_files(files)
        with self._lock:
            self._check_open()
            if name in self._namespaces:
                raise InvalidTopologyError(f"cannot add namespace {name!r}: this lab has one of that name already")
            if hostname is not None:
                self.names.check_hostname(hostname)
            hub = destruction.hub()
            try:
                kernel = NetworkNamespace.create(name, self._capture_first)
                try:
                    watched = hub.watch(kernel, self.owner)
                except BaseException:
                    kernel.close()
                    raise
            except BaseException:
                for capture in self._captures:
                    capture.remove(name)
                raise
            namespace = self._enlist(kernel, hostname or "", watched)
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
            for capture in self._captures:
                capture.leave(removed.name)
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
        place = adopted.place_of(name, pid, path)
        with self._lock:
            self._check_open()
            if name in self._namespaces:
                raise InvalidTopologyError(f"cannot adopt namespace {name!r}: this lab has one of that name already")
            kernel = adopted.AdoptedNamespace.adopt(name, place, self._capture_first)
            known = {each.programs.inode: each.name for each in self}
            if kernel.inode in known:
                kernel.close()
                raise InvalidTopologyError(
                    f"cannot adopt namespace {name!r}: {place} is {known[kernel.inode]!r} of this lab already"
                )
            return self._enlist(kernel, "")

    def add_veth(
        self,
        red: Namespace,
        blue: Namespace,
        *,
        addresses: tuple[AddressArgument, AddressArgument] = (None, None),
        names: tuple[str | None, str | None] = (None, None),
        mtu: int | None = None,
        impairment: Impairment | str | None = None,
        macs: tuple[str | None, str | None] = (None, None),
        indexes: tuple[int | None, int | None] = (None, None),
        up: bool = True,
        queues: int | None = None,
        offload: bool = True,
    ) -> VethPair:
        """Join two namespaces by a cable: a veth pair with one end in each, both up.

        Args:
            red, blue: where the ends go; may be the same.
            addresses: one for each end, with prefix length; each may be several, or None.
            names: of the interfaces; default ``veth-NAMESPACE``.
            mtu: in bytes, for both ends.
            impairment: what happens to packets in each direction, see `VethPair.impair`.
            macs: MAC addresses; default ones that follow from the names of namespace and interface.
            indexes: the interfaces' numbers; default ones that are free.
            up: whether they are switched on.
            queues: how many each has, for sending and for receiving.
            offload: False to have packets as they would be on a wire: checksums filled in, none larger than the MTU.
        """
        if any(len(each) != 2 for each in (addresses, names, macs, indexes)):
            raise InvalidTopologyError(
                "cannot add veth pair: addresses, names, macs and indexes take two items, one for each end"
            )
        parsed = (parse_addresses(addresses[0]), parse_addresses(addresses[1]))
        for namespace in (red, blue):
            self.check_member(namespace)
        a, b = (
            End(namespace.links, name, own, mtu, mac, index, up)
            for namespace, name, own, mac, index in zip((red, blue), names, parsed, macs, indexes, strict=True)
        )
        return join(a, b, (impairment, impairment), offload=offload, queues=queues)

    def add_bridge(
        self,
        name: str,
        address: AddressArgument = None,
        *,
        namespace: Namespace | None = None,
        mtu: int | None = None,
        kind: str = "bridge",
        **options: Any,
    ) -> Bridge:
        """Make a bridge: a switch that joins many namespaces, see `Bridge.attach`.

        Args:
            name: the interface's name.
            address: an address for its namespace on the bridge, with prefix length, or several.
            namespace: where it is; default ``lab.host``.
            mtu: in bytes.
            kind: ``"bridge"``, the kernel's; or ``"openvswitch"``, for VLANs and OpenFlow: see `OpenVSwitch`.
            options: ``vlan_filtering=True`` for VLANs, ``stp=True`` for spanning tree (ports then forward after some
                seconds), and others of ip-link(8), as `Namespace.add_interface` takes them.
        """
        self._check_open()
        addresses = parse_addresses(address)
        values.parse_interface_name(name)
        place = self.host if namespace is None else namespace
        self.check_member(place)
        if values.parse_choice(kind, BRIDGES, "kind of bridge") == "openvswitch":
            return self._add_openvswitch(place, name, addresses, mtu, options)
        bridge = self._add_bridge(place.links, name, addresses, mtu, options)
        # The bridge module may hand what crosses a bridge to nft; NAT would then happen in the wrong place.
        with contextlib.suppress(NetnsError):  # the module is not loaded
            place.settings.write(_NO_BRIDGE_FILTERS)
        made = handle(bridge, "bridge")
        assert isinstance(made, Bridge)
        return made

    def _add_openvswitch(
        self, place: Namespace, name: str, addresses: Sequence[IPInterface], mtu: int | None, options: Mapping[str, Any]
    ) -> OpenVSwitch:
        from pytest_netns.lab import openvswitch

        if options:
            raise InvalidTopologyError(
                f"cannot use {next(iter(options))!r} for an Open vSwitch bridge: give tag= and trunks= to attach()"
            )
        if mtu is not None:
            values.parse_mtu(mtu)
        if place.links.is_taken(name):
            raise InvalidTopologyError(
                f"cannot add bridge {name!r}: namespace {place.name!r} has an interface of that name already"
            )
        with self._lock:
            if place.name not in self._switches:
                self._switches[place.name] = openvswitch.SwitchDaemons(place.programs)
                self.at_end(self._switches[place.name].close)
        made = openvswitch.add(place, self._switches[place.name], name, addresses, mtu)
        self.notes.add(made)
        return made

    @staticmethod
    def _add_bridge(
        links: Links, name: str, addresses: Sequence[IPInterface], mtu: int | None, options: Mapping[str, Any]
    ) -> Link:
        if not options:
            return connecting.add_bridge(links, name, addresses, mtu)
        from pytest_netns.lab import making

        return making.add_link(links, making.wanted("bridge", name, options, on=None, mtu=mtu, addresses=addresses))

    def add_hostname(self, hostname: str, target: Namespace | str | IPAddress) -> None:
        """Have a further name lead to a namespace, for everything that runs in this lab.

        Args:
            hostname: such as ``"api.example.com"``.
            target: a namespace, its name, or an address.
        """
        self._check_open()
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

        self._check_open()
        with self.names.held():
            building.build(self, topology)
        self._built.append(topology)

    # -- faults ---------------------------------------------------------------------------------------

    def partition(self, *groups: Iterable[Namespace | str]) -> Cut:
        """Have nothing pass between groups of namespaces, either way; their interfaces keep their carrier::

            with lab.partition(["n1"], ["n2", "n3"]):
                ...

        A namespace in two groups sees both. One in no group sees everybody. `partitions` has ready shapes.

        Returns:
            The partition in force: a context manager that heals it; see `Cut` for what it knows of NAT.
        """
        from pytest_netns.faults import cuts

        named = [self._names_of(group) for group in groups]
        return cuts.partition(self.faults, self.links.members, named)

    def cut(self, source: Namespace | str, *, to: Namespace | str | Iterable[Namespace | str]) -> Cut:
        """Have nothing that a namespace sends reach another one; the other way stays open.

        Args:
            source: the namespace that is not heard any more, or its name.
            to: where its packets do not arrive: one namespace or several.

        Returns:
            The cut in force: a context manager that heals it; see `Cut` for what it knows of NAT.
        """
        from pytest_netns.faults import cuts

        return cuts.cut(self.faults, self.links.members, self._names_of(source), self._names_of(to))

    def heal(self) -> None:
        """Undo all faults: partitions, cuts, isolations, unplugged cables, frozen namespaces, paused services.

        Impairments stay: they are a property of the network, and have a ``heal()`` of their own.
        """
        self._check_open()
        self.faults.heal()

    def nemesis(
        self,
        faults: Sequence[FaultStarter],
        *,
        every: float | tuple[float, float] = (0.5, 2.0),
        seed: int | None = None,
    ) -> Nemesis:
        """Start and heal faults at random instants beside a workload::

            with lab.nemesis([n1.isolate, lambda: lab.cut("n2", to="n3")], every=(0.5, 2)) as nemesis:
                run_the_workload()
            print(nemesis.history)

        Args:
            faults: functions that each start one; with an argument they are given a `random.Random` to choose with.
            every: seconds before each start and each healing: a number, or the least and the most of a random one.
            seed: of the schedule; None for one drawn from ``--netns-seed``.
        """
        from pytest_netns.faults.nemesis import Nemesis

        self._check_open()
        made = Nemesis(faults, every=every, seed=self.seeds.draw() if seed is None else seed)
        self.notes.add(made)
        self.at_end(made.stop)
        return made

    def _names_of(self, given: Namespace | str | Iterable[Namespace | str]) -> list[str]:
        """The names of namespaces of this lab, given one way or the other."""
        self._check_open()
        several = [given] if isinstance(given, str | Namespace) else list(given)
        for each in several:
            if not isinstance(each, str):
                self.check_member(each)
        names = [self[each].name if isinstance(each, str) else each.name for each in several]
        if not names:
            raise InvalidTopologyError("cannot use an empty group of namespaces: name one at least")
        return list(dict.fromkeys(names))

    # -- reading --------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._closed

    @contextlib.contextmanager
    def capture(self) -> Iterator[Capture]:
        """The packets that all interfaces of all namespaces send and receive during the block, and after it::

        with lab.capture() as packets:
            red.run("ping -c1 192.168.15.2")
        assert any(packet.protocol == "arp" for packet in packets)
        """
        capture = self._start_capture()
        try:
            yield capture
        finally:
            self._captures.remove(capture)
            capture.stop()

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

    @property
    def has_impairments(self) -> bool:
        """Whether any link has been impaired."""
        return self._impairments is not None

    @property
    def impairments(self) -> Impairments:
        """The impaired links, and what impairs them."""
        with self._lock:
            self._check_open()
            if self._impairments is None:
                from pytest_netns.faults.impair import Impairments

                self._impairments = Impairments(self._engine, self.seeds.draw)
                self._undo.append(self._impairments.close)
                self.notes.add(self._impairments)
            return self._impairments

    def wait_until(self, condition: Callable[[], T], timeout: float = 5, *, retry_on: RetryOn = NOT_YET) -> T:
        """Ask again and again until a condition is true; returns what it gave::

            lab.wait_until(lambda: "lease" in server.output)
            lab.wait_until(lambda: red.run("curl -sf http://blue/"))

        Args:
            condition: called without arguments.
            timeout: seconds.
            retry_on: the exceptions that count as not yet, one or several: a command that fails or takes too long, and what
                sockets raise, unless said otherwise. Anything else it raises is raised here.

        Raises:
            NotReadyError: it was not true in time; shows what it gave last, or the command that failed with what that wrote.
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

        self._check_open()
        return draw(Sketch.from_states(states.networks(self)), format)

    def __getitem__(self, name: str) -> Namespace:
        try:
            return self._namespaces[name]
        except KeyError:
            listing = values.suggest(name, self._namespaces)
            raise InvalidTopologyError(f"cannot find namespace {name!r} in this lab: {listing}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._namespaces

    def __iter__(self) -> Iterator[Namespace]:
        return iter(tuple(self._namespaces.values()))

    def __len__(self) -> int:
        return len(self._namespaces)

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
        if not first:
            if self._closer != threading.get_ident():
                self._gone.wait()
            return
        try:
            self._undo_all()
        finally:
            self._gone.set()

    def at_end(self, undo: Callable[[], None]) -> None:
        """Have something undone when the lab is closed, before its namespaces are freed."""
        self._check_open()
        self._undo.append(undo)

    def _undo_all(self) -> None:
        errors: list[Exception] = []
        interrupted: BaseException | None = None
        steps: list[Callable[[], object]] = [
            lambda: ending.end_processes(self.programs, errors),
            lambda: ending.kill_processes(self.programs),
        ]
        steps += [capture.stop for capture in self._captures]
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
        self._check_open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def record(self) -> None:
        """Capture all packets from now on, within bounds, for the report of the test."""
        self._recording = self._start_capture(by_itself=True)

    @property
    def recording(self) -> Capture | None:
        """The packets for the report of the test; None where these are not recorded."""
        return self._recording

    def forget_recording(self) -> None:
        """Let go of the packets at once, rather than when Python gets to the cycles a lab is in."""
        if self._recording is not None:
            self._captures.remove(self._recording)
            self._recording = None

    def _start_capture(self, *, by_itself: bool = False) -> Capture:
        """Capture from now on until the lab is closed, namespaces that are added later too."""
        from pytest_netns.packets.capture import Capture

        with self._lock:
            self._check_open()
            capture = Capture(by_itself=by_itself, drops=self.faults.drops)
            self._captures.append(capture)
            for namespace in self:
                capture.add(namespace.programs.network)
        return capture

    def _capture_first(self, kernel: NetworkNamespace) -> None:
        """Have a new namespace captured, while the calling thread is still inside."""
        for capture in self._captures:
            capture.add(kernel, inside=True)

    def has_built(self, topology: Topology) -> bool:
        """Whether this very topology was built in it."""
        return topology in self._built

    # -- for the other modules ------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise LabClosedError

    def check_member(self, namespace: Namespace) -> None:
        """Refuse what is no namespace of this lab, or one of a closed lab."""
        self._check_open()
        if not isinstance(namespace, Namespace):
            raise InvalidTopologyError(f"cannot use {namespace!r} as namespace: pass what lab.add_namespace() returned")
        if namespace.lab is not self:
            raise InvalidTopologyError(
                f"cannot use namespace {namespace.name!r} in this lab: it belongs to another lab"
            )

"""What one run of pytest does with namespaces: its mode, the lab of each test, and where the test's body runs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_netns.errors import InvalidTopologyError, KernelError, UnavailableError
from pytest_netns.kernel import bindings, privileges

if TYPE_CHECKING:
    from pytest_netns.lab import Lab
    from pytest_netns.settings import Marker, Settings
    from pytest_netns.topology import Topology

_NAMES_IN_ID = 4
FIXTURES = frozenset({"netns", "netns_factory", "netns_pair", "netns_lan", "netns_nat"})


class LabFactory:
    """Makes labs that live as long as their block: for fixtures of module or session scope.

    Attributes:
        labs: those that are open.
    """

    def __init__(self) -> None:
        self.labs: list[Lab] = []

    @contextlib.contextmanager
    def lab(self, topology: Topology | str | None = None, *, owner: str = "netns_factory") -> Iterator[Lab]:
        """A lab for the time of the block: ``with netns_factory.lab() as lab: yield lab``.

        Args:
            topology: what to build at once: a Topology, or the name of a picture (``"pair"``, ``"lan"``, ``"nat"``).
            owner: named in reports.
        """
        with open_lab(owner) as lab:
            if topology is not None:
                lab.build(_picture(topology) if isinstance(topology, str) else topology)
            self.labs.append(lab)
            try:
                yield lab
            finally:
                self.labs.remove(lab)


class Session:
    """The plugin's state during one run of pytest.

    Attributes:
        settings: the options in force.
        factory: what the fixture ``netns_factory`` gives.
        leaks: of the namespaces that outlived their test by 5 s, (test, message).
        missing: why tests could not run, and what they had to do without: each reason once and in full.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.factory = LabFactory()
        self.leaks: list[tuple[str, str]] = []
        self.missing: list[str] = []
        self._unavailable: UnavailableError | None = None
        self._checked = False
        self._watched = False

    # -- mode ---------------------------------------------------------------------------------------

    def go_rootless(self) -> None:
        """Move this process into a user namespace; a refusal is kept for the tests that need it."""
        if not _is_linux():
            return
        from pytest_netns.kernel import rootless

        try:
            rootless.enter()
        except UnavailableError as error:
            self._checked = True
            self._unavailable = error

    def told_workers(self) -> list[str] | None:
        """What an xdist controller tells its workers at their start: why it could not become rootless."""
        error = self._unavailable
        return None if error is None else [error.feature, error.cause, error.remedy]

    def inherit(self, told: list[str] | None) -> None:
        """In an xdist worker: what the controller could not do, this process cannot either."""
        if told is not None:
            self._checked = True
            self._unavailable = UnavailableError(*told)

    def choose_mode(self, *, all_use_netns: bool) -> None:
        """In mode auto, once it is known which tests will run: rootless if there is no other way and nobody minds."""
        if self.settings.mode != "auto" or not _is_linux() or privileges.is_privileged():
            return
        if all_use_netns:
            self.go_rootless()
            return
        self._checked = True
        self._unavailable = UnavailableError(
            "network namespaces",
            "this process has no privilege, and tests that do not use netns would lose the host's network "
            "if it moved into a user namespace",
            "say --netns-mode=rootless if they may, select only tests that use netns, or run as root",
        )

    def check_available(self) -> UnavailableError | None:
        """Why this process cannot make namespaces; None if it can. Tried once."""
        if not self._checked:
            self._checked = True
            try:
                _try_namespace()
            except UnavailableError as error:
                self._unavailable = error
        if self._unavailable is not None:
            self.note_missing(self._unavailable)
        return self._unavailable

    def note_missing(self, error: UnavailableError) -> None:
        """Remember why a test could not run, to tell it once at the end of the run."""
        if str(error) not in self.missing:
            self.missing.append(str(error))

    def header(self) -> str:
        """The line of the report header: which mode runs and what is missing."""
        if not _is_linux():
            return "netns: not available: it needs Linux"
        if self._unavailable is not None:
            return f"netns: not available: {self._unavailable.short()}"
        mode = self.settings.mode
        if mode == "auto":
            mode = "root" if privileges.is_privileged() else "rootless, if every selected test uses netns"
        missing = f"; NAT is not available: {bindings.REMEDY}" if bindings.find() is None else ""
        return f"netns: mode {mode}{missing}"

    # -- a test -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def body_inside(self, lab: Lab, marker: Marker, directory: Path, root: Path) -> Iterator[None]:
        """Build what a marker asks for, and run the test's body inside."""
        from pytest_netns import entering

        topology = load_topology(marker, directory, root)
        if topology is not None:
            lab.build(topology)
        if marker.enter is None:
            yield
            return
        namespace = lab.host if marker.enter == "host" else lab[marker.enter]
        depth = entering.depth()
        entering.enter(namespace)
        try:
            yield
        finally:
            entering.leave_all(depth)

    def guard_signals(self) -> None:
        """SIGINT heeds the moments that must not be interrupted; SIGTERM and SIGHUP run finalizers too.

        Only from the first test on that uses the plugin, and only where nobody else has set a handler.
        """
        from pytest_netns.kernel import interrupts

        handler = signal.getsignal(signal.SIGINT)
        if callable(handler) and interrupts.guarded(signal.SIGINT) is None:
            interrupts.guard(signal.SIGINT, handler)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                interrupts.guard(number, _terminate)
        if is_worker() and not self._watched:
            from pytest_netns.kernel import supervision

            # Left alone by its controller a worker goes on for many seconds; the watchdog ends it.
            supervision.supervisor()
            self._watched = True

    # -- the end ------------------------------------------------------------------------------------

    def note_leaks(self, *, wait: bool = False) -> None:
        """Add the namespaces that should be gone by now to the leaks; with wait, give those just closed their time."""
        if "pytest_netns.kernel.destruction" not in sys.modules:
            return
        from pytest_netns.kernel import destruction

        hub = destruction.hub_if_any()
        if hub is None:
            return
        from pytest_netns.kernel import holders, supervision

        if wait:
            if "pytest_netns.kernel.capturing" in sys.modules:
                from pytest_netns.kernel import capturing

                capturing.flush()
            hub.wait(time.monotonic() + destruction.GRACE)
        for late in hub.overdue():
            held = "; ".join(holders.find(late.inode))
            if not held and wait:
                hub.wait(time.monotonic() + destruction.BUSY - destruction.GRACE)
            if not held and late not in hub.overdue(destruction.BUSY):
                continue
            message = f"namespace {late.name!r} is still alive {destruction.GRACE:g} s after its lab was closed: "
            self.leaks.append((late.owner, message + (held or holders.UNKNOWN)))
            supervision.end_copies(late.inode)
            hub.forget(late)

    def note_refusals(self) -> None:
        """Add what this environment refused namespaces and the programs in them, such as a PID namespace."""
        if "pytest_netns.kernel.supervision" in sys.modules:
            from pytest_netns.kernel import interface_settings, supervision

            for who, refused in (
                ("programs in namespaces ran", supervision.refused()),
                ("namespaces had to do", interface_settings.refused()),
            ):
                if refused:
                    self.missing.append(f"{who} without: {'; '.join(refused)}")

    def told_controller(self) -> list[Any]:
        """What an xdist worker sends at its end."""
        return [self.leaks, self.missing]

    def hear_worker(self, told: list[Any]) -> None:
        """Take over what an xdist worker has sent."""
        leaks, missing = told
        self.leaks += [(owner, message) for owner, message in leaks]
        self.missing += [reason for reason in missing if reason not in self.missing]

    def close(self) -> None:
        """End what this run has started, and give signals their handlers back."""
        if "pytest_netns.kernel.supervision" in sys.modules:
            from pytest_netns.kernel import supervision

            supervision.close()
        if "pytest_netns.kernel.interrupts" in sys.modules and _is_linux():
            from pytest_netns.kernel import interrupts

            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                handler = interrupts.guarded(number)
                if handler is not None:
                    signal.signal(number, signal.SIG_DFL if handler is _terminate else handler)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: pytest ends as after Ctrl-C, finalizers included."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(signal.Signals(number).name)


def is_worker() -> bool:
    """Whether this process is a worker of pytest-xdist."""
    return "PYTEST_XDIST_WORKER" in os.environ


def _is_linux() -> bool:
    return sys.platform == "linux"


def _try_namespace() -> None:
    if not _is_linux():
        raise UnavailableError("network namespaces", f"this is {sys.platform}", "run these tests on Linux")
    from pytest_netns.kernel.netns import NetworkNamespace

    try:
        NetworkNamespace.create("probe").close()
    except KernelError as error:  # a limit that is reached
        raise UnavailableError("network namespaces", str(error).splitlines()[0], error.remedy) from error


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Whatever namespace the thread is in, it is outside for the time of the block."""
    if "pytest_netns.entering" not in sys.modules:
        yield
        return
    from pytest_netns import entering

    with entering.outside():
        yield


@contextlib.contextmanager
def open_lab(owner: str, *, recorded: bool = False) -> Iterator[Lab]:
    """A lab that is closed at the end, with every block of it that the thread is still in left first.

    Args:
        owner: named in reports.
        recorded: whether its packets are captured from the start.
    """
    from pytest_netns import entering
    from pytest_netns.lab import Lab

    lab = Lab(owner)
    if recorded:
        lab._record()
    depth = entering.depth()
    try:
        yield lab
    finally:
        entering.leave_all(depth)
        lab.close()


def build_picture(lab: Lab, name: str) -> Lab:
    """Add a ready-made picture, unless the marker has built it already."""
    picture = _picture(name)
    if picture not in lab._built:
        lab.build(picture)
    return lab


def build_parameter(lab: Lab, parameter: object, directory: Path, root: Path) -> None:
    """Add what ``parametrize("netns", ..., indirect=True)`` gives: whatever the marker takes as its topology."""
    if parameter is not None:
        lab.build(_topology(parameter, directory, root))


def topology_id(value: object) -> str | None:
    """How a Topology is shown in the id of a parametrized test: the picture's name, or the namespaces'."""
    if "pytest_netns.topology" not in sys.modules:  # so that suites without topologies do not pay for it
        return None
    from pytest_netns.topology import PICTURES, Topology

    if not isinstance(value, Topology):
        return None
    for name, picture in PICTURES.items():
        if value == picture:
            return name
    names = value.namespace_names
    more = f"+{len(names) - _NAMES_IN_ID}" if len(names) > _NAMES_IN_ID else ""
    return "-".join(names[:_NAMES_IN_ID]) + more or "empty"


def load_topology(marker: Marker, directory: Path, root: Path) -> Topology | None:
    """The topology a marker asks for: a picture, a value, a file relative to the test file and then the root, or inline."""
    if marker.inline:
        from pytest_netns.topology import Topology

        return Topology.inline(**marker.inline)
    return None if marker.topology is None else _topology(marker.topology, directory, root)


def _topology(given: object, directory: Path, root: Path) -> Topology:
    from pytest_netns.topology import Topology

    if isinstance(given, Topology):
        return given
    if isinstance(given, str | os.PathLike):
        name = os.fspath(given)
        if not name.endswith(".toml"):
            return _picture(name)
        for place in (directory, root):
            if (place / name).is_file():
                return Topology.from_toml(place / name)
        raise InvalidTopologyError(f"cannot read topology {name!r}: no such file in {directory} or {root}")
    raise InvalidTopologyError(
        f"cannot use {given!r} as topology: give the name of a picture, a path to a .toml file, or a Topology"
    )


def _picture(name: str) -> Topology:
    from pytest_netns import values
    from pytest_netns.topology import PICTURES

    return PICTURES[values.parse_choice(name, PICTURES, "picture")]

"""The state of one pytest run: its mode, missing features, signals and leaks."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any

from pytest_netns.kernel.nft import bindings
from pytest_netns.kernel.system import privileges

if TYPE_CHECKING:
    from pytest_netns.errors import UnavailableError
    from pytest_netns.lab.factory import LabFactory
    from pytest_netns.plugin.leaks import Leak
    from pytest_netns.plugin.options import Settings

_runs: weakref.WeakSet[Run] = weakref.WeakSet()  # several if a test runs pytest in this process
_LOOK_INTERVAL = 0.25  # seconds between two checks for leaks; meanwhile the kernel queues its notifications


class Run:
    """The plugin's state during one run of pytest.

    Attributes:
        settings: the options in force.
        leaks: the namespaces that outlived their test by 5 s.
        ready: whether the availability of namespaces was checked for the running test.
        is_worker: whether this process is an xdist worker; xdist's environment variable is inherited by other processes too.
        missing: why tests could not run, and which features were missing: each reason once and in full.
    """

    def __init__(self, settings: Settings) -> None:
        _runs.add(self)
        self.settings = settings
        self.leaks: list[Leak] = []
        self.missing: list[str] = []
        self.ready = False
        self.is_worker = False
        self._looked = 0.0
        self._unavailable: UnavailableError | None = None
        self._in_header: UnavailableError | None = None
        self._checked = False
        self._watched = False
        if _is_linux() and not privileges.has_proc():
            from pytest_netns.errors import UnavailableError

            self._checked = True
            self._unavailable = UnavailableError("network namespaces", privileges.NO_PROC, privileges.MOUNT_PROC)

    @functools.cached_property
    def factory(self) -> LabFactory:
        """The value of the fixture ``netns_factory``."""
        from pytest_netns.lab.factory import LabFactory

        return LabFactory(engine=self.settings.impairments)

    # -- mode ---------------------------------------------------------------------------------------

    def go_rootless(self, *, with_workers: bool = False) -> None:
        """Move this process into a user namespace; a refusal is reported by the tests that need it.

        Args:
            with_workers: whether this is an xdist controller, whose workers inherit the namespaces.
        """
        if not _is_linux() or self._checked:
            return
        from pytest_netns.errors import UnavailableError
        from pytest_netns.machine import rootless

        if self.settings.uplink != "off":
            from pytest_netns.machine import uplink

            with contextlib.suppress(UnavailableError):  # reported when an uplink is added
                uplink.start_agent()
        try:
            rootless.enter(with_workers=with_workers)
        except UnavailableError as error:
            self._checked = True
            self._unavailable = error

    def report_for_workers(self) -> list[str] | None:
        """The report of an xdist controller for its workers: why it could not become rootless."""
        error = self._unavailable
        return None if error is None else [error.feature, error.cause, error.remedy]

    def uplink_agent(self) -> str:
        """The socket path of the uplink helper started before the move; empty for none."""
        if self.settings.uplink == "off":
            return ""
        from pytest_netns.machine import uplink

        return uplink.agent_path()

    def inherit(self, unavailable: list[str] | None, agent: str) -> None:
        """In an xdist worker: take over the controller's refusal and its uplink helper."""
        if agent:
            from pytest_netns.machine import uplink

            uplink.use_agent(agent)
        if unavailable is not None:
            from pytest_netns.errors import UnavailableError

            self._checked = True
            self._unavailable = UnavailableError(*unavailable)
        elif self.settings.mode == "rootless" and _is_linux():
            from pytest_netns.machine import rootless

            rootless.settle()

    def choose_mode(self, *, all_use_netns: bool) -> None:
        """In mode auto, after collection: rootless if there is no privilege and all tests use netns."""
        if self._checked or self.settings.mode != "auto" or not _is_linux() or privileges.is_privileged():
            return
        if all_use_netns:
            self.go_rootless()
            return
        from pytest_netns.errors import UnavailableError

        self._checked = True
        self._unavailable = UnavailableError(
            "network namespaces",
            "this process has no privilege, and tests that do not use netns would lose the host's network "
            "if it moved into a user namespace",
            "use --netns-mode=rootless if they may, select only tests that use netns, or run as root",
        )

    def check_available(self) -> UnavailableError | None:
        """Why this process cannot create namespaces; None if it can. Tried once."""
        if not self._checked:
            from pytest_netns.errors import UnavailableError

            self._checked = True
            try:
                _try_namespace()
            except UnavailableError as error:
                self._unavailable = error
        if self._unavailable is not None:
            self.note_missing(self._unavailable)
        return self._unavailable

    def note_unavailable(self, error: BaseException) -> str | None:
        """The reason to skip a test whose error says that a feature such as nft is missing; records it."""
        from pytest_netns.errors import UnavailableError

        if not isinstance(error, UnavailableError):
            return None
        self.note_missing(error)
        return error.short() if self.settings.unavailable == "skip" else None

    def note_missing(self, error: UnavailableError) -> None:
        """Record why a test could not run, for the summary at the end of the run."""
        if str(error) not in self.missing:
            self.missing.append(str(error))

    def header(self) -> str:
        """The line of the report header: the mode, and what is missing."""
        if not _is_linux():
            return "netns: not available: it needs Linux"
        if self._unavailable is not None:
            self._in_header = self._unavailable
            return f"netns: not available: {self._unavailable.short()}"
        mode = self.settings.mode
        if mode == "auto":
            mode = "root" if privileges.is_privileged() else "rootless, if every selected test uses netns"
        missing = f"; NAT is not available: {bindings.REMEDY}" if bindings.find() is None else ""
        seed = "" if self.settings.seed is None else f"; seed {self.settings.seed}"
        engine = "" if self.settings.impairments == "auto" else f"; impairments by {self.settings.impairments}"
        return f"netns: mode {mode}{missing}{engine}{seed}"

    def seed(self) -> int:
        """The seed of the run's random numbers, for the workers of xdist."""
        from pytest_netns.faults import seeds

        return seeds.run_seed() if self.settings.seed is None else self.settings.seed

    def use_seed(self) -> None:
        """Set the seed of the random numbers of faults, if one was given."""
        if self.settings.seed is not None:
            from pytest_netns.faults import seeds

            seeds.set_run_seed(self.settings.seed)

    def forecast(self) -> list[str]:
        """Header lines on features that tests with netns will lack, in addition to `header`."""
        if not _is_linux():
            return []
        if self._unavailable is not None:
            is_shown = self._unavailable is self._in_header
            return [] if is_shown else [f"netns: not available: {self._unavailable.short()}"]
        from pytest_netns.machine import unsupported

        refused = unsupported.find()
        return [f"netns: not available: {'; '.join(refused)}; see pytest-netns doctor"] if refused else []

    # -- signals ------------------------------------------------------------------------------------

    def guard_signals(self) -> None:
        """See `signals.guard`; a worker of xdist ends with its controller.

        Called by the first test that uses the plugin; replaces no handler of others.
        """
        from pytest_netns.plugin import signals

        signals.guard()
        if self.is_worker and not self._watched:
            from pytest_netns.kernel.programs import supervision

            # Without its controller a worker keeps running for many seconds; the watchdog ends it.
            supervision.end_with(os.getppid())
            supervision.supervisor()
            self._watched = True

    # -- the end ------------------------------------------------------------------------------------

    def note_leaks(self, *, wait: bool = False) -> None:
        """Add the namespaces that should be gone by now to the leaks; with wait, wait for those closed just before."""
        now = time.monotonic()
        if (
            now - self._looked < _LOOK_INTERVAL and not wait
        ) or "pytest_netns.kernel.spaces.destruction" not in sys.modules:
            return
        self._looked = now
        from pytest_netns.kernel.spaces import destruction

        if destruction.hub_if_any() is None:
            return
        from pytest_netns.plugin import leaks

        self.leaks += leaks.find(wait=wait)

    def note_refusals(self) -> None:
        """Add the features that this environment refused to namespaces and programs, such as PID namespaces."""
        if "pytest_netns.kernel.programs.supervision" in sys.modules:
            from pytest_netns.kernel.programs import supervision
            from pytest_netns.kernel.spaces import interface_settings

            for who, refused in (
                ("programs in namespaces ran", supervision.refused()),
                ("namespaces had to do", interface_settings.refused()),
            ):
                if refused:
                    self.missing.append(f"{who} without: {'; '.join(refused)}")

    def report_for_controller(self) -> list[Any]:
        """The report that an xdist worker sends at its end."""
        return [[list(leak) for leak in self.leaks], self.missing]

    def receive_worker_report(self, report: list[Any]) -> None:
        """Add the report of an xdist worker."""
        leaks, missing = report
        if leaks:
            from pytest_netns.plugin.leaks import Leak

            self.leaks += [Leak(*fields) for fields in leaks]
        self.missing += [reason for reason in missing if reason not in self.missing]

    def close(self) -> None:
        """End what this run started, and restore signal handlers; a nested run leaves that to the outer one."""
        _runs.discard(self)
        if _runs:
            return
        if "pytest_netns.kernel.programs.wirehelper" in sys.modules:
            from pytest_netns.kernel.programs import wirehelper

            wirehelper.close()
        if "pytest_netns.kernel.programs.supervision" in sys.modules:
            from pytest_netns.kernel.programs import supervision

            supervision.close()
        if "pytest_netns.kernel.system.interrupts" in sys.modules and _is_linux():
            from pytest_netns.kernel.system import interrupts

            interrupts.unguard()


def _is_linux() -> bool:
    return sys.platform == "linux"


def _try_namespace() -> None:
    from pytest_netns.errors import KernelError, UnavailableError

    if not _is_linux():
        raise UnavailableError("network namespaces", f"this is {sys.platform}", "run these tests on Linux")
    from pytest_netns.kernel.spaces.netns import NetworkNamespace

    try:
        NetworkNamespace.create("probe").close()
    except KernelError as error:  # a limit that is reached
        raise UnavailableError("network namespaces", str(error).splitlines()[0], error.remedy) from error

"""Services: programs that are waited for until ready, and end with all their processes."""

from __future__ import annotations

import contextlib
import functools
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pytest_netns.errors import NetnsError, NotReadyError, show_argv, show_status
from pytest_netns.kernel.system.waiting import Deadline
from pytest_netns.running import halting, readiness
from pytest_netns.running.family import Family, Held
from pytest_netns.running.output import Output
from pytest_netns.running.process import STOP_GRACE, Command, Process, note_refused, spawn
from pytest_netns.running.readiness import Condition, Ready

if TYPE_CHECKING:
    from pytest_netns.running.halting import Healable
    from pytest_netns.running.programs import Programs

_LAST_PAUSE = 0.02  # seconds between two checks whether a service is ready
_ENDING_SIGNALS = frozenset(
    {2, 9, 15}
)  # SIGINT, SIGKILL, SIGTERM; as numbers, since other systems, on which suites are collected too, lack some names


class Service(Process):
    """A program that is ready; its output is kept, and shown when a test fails.

    Attributes:
        captured: its output.
        paused: undoes `pause`; None unless paused.
        family: its processes.
        start_again: starts it again with the same arguments.
    """

    def __init__(self, programs: Programs, command: Command, *, family: Family, **options: Any) -> None:
        self.family = family
        self.captured = Output()
        self._is_stopped = False
        self.paused: Healable | None = None
        self.start_again: Callable[[], Service] = lambda: self
        super().__init__(programs, command, **options)
        family.begin(self)

    @property
    def output(self) -> str:
        """Its output so far to stdout and stderr (the last MiB), while it runs and afterwards."""
        return self.captured.text

    def stop(self, timeout: float = STOP_GRACE) -> int:
        """End it and all the processes it has started, so that its ports are free.

        The program gets SIGTERM; its remaining processes get SIGTERM once it has ended, and SIGKILL after
        ``timeout`` seconds.

        Returns:
            Its exit status, as `subprocess.Popen.returncode`.
        """
        self._is_stopped = True
        deadline = Deadline(timeout)
        with Held(self.family) as held:
            held.look()
            if self.poll() is None:
                self.terminate()
                self._wake(held)
                self._wait_for_program(held, deadline)
            if not held.wait(Deadline(0)):
                held.send(signal.SIGTERM)
                self._wake(held)
                if not held.wait(deadline) and not held.kill():
                    raise NetnsError(f"cannot stop {self!r}: some of its processes have not ended after SIGKILL")
        self.wait_for_output()
        return self.wait()

    def kill(self) -> None:
        """End it and all the processes it has started at once, by SIGKILL; they have ended when this returns."""
        self._is_stopped = True
        with Held(self.family) as held:
            if not held.kill():
                raise NetnsError(f"cannot kill {self!r}: some of its processes have not ended after SIGKILL")
        self.poll()

    def pause(self) -> Healable:
        """Stop it and all its processes (SIGSTOP): its connections stay open, but nothing answers.

        Returns:
            A context manager; the service resumes at the end of its block.
        """
        if self.paused is None:
            self.paused = halting.pause(self)
        return self.paused

    def resume(self) -> None:
        """Resume it after `pause`; does nothing if it is not paused."""
        if self.paused is not None:
            self.paused.heal()

    def restart(self) -> Service:
        """Stop it if it still runs, and start it again with the same command, options and readiness.

        Returns:
            The new service; this one has ended.
        """
        self.stop()
        return self.start_again()

    def send_signal(self, sig: int) -> None:
        """Signal the program; after SIGTERM, SIGINT or SIGKILL its end is expected."""
        if sig in _ENDING_SIGNALS:
            self._is_stopped = True
        super().send_signal(sig)

    @property
    def died(self) -> bool:
        """Whether it ended unexpectedly."""
        return not self._is_stopped and self.poll() is not None and not self.is_daemon()

    def is_daemon(self) -> bool:
        """Whether it has put itself into the background."""
        return self.returncode == 0 and bool(self.family.pids())

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def lab_closes(self) -> None:
        self._is_stopped = True

    def close_streams(self) -> None:
        self.wait_for_output()  # the reading thread closes stdout
        if self.stdin is not None:
            with contextlib.suppress(OSError):
                self.stdin.close()

    def wait_for_output(self) -> None:
        """Wait for the last of the output."""
        self.captured.wait_for_rest()

    def _wake(self, held: Held) -> None:
        """Resume it, since a stopped process does not handle SIGTERM."""
        if self.paused is not None:
            held.send(signal.SIGCONT)
            self.paused.heal()

    def _wait_for_program(self, held: Held, deadline: Deadline) -> None:
        """Wait for the program, which may end its children itself; new ones are recorded meanwhile."""
        while self.poll() is None and not deadline.is_over():
            held.look()
            deadline.pause()


def start(
    programs: Programs, command: Command, *, ready: Ready | None, timeout: float, options: dict[str, Any]
) -> Service:
    """Start a service and wait until it is ready; see `Namespace.start`."""
    return start_all([(programs, command)], ready=ready, timeout=timeout, options=options)[0]


def start_all(
    commands: Sequence[tuple[Programs, Command]], *, ready: Ready | None, timeout: float, options: dict[str, Any]
) -> list[Service]:
    """Start services, and only then wait until all are ready; see `Lab.start_all`."""
    started: list[tuple[Service, Condition]] = []
    try:
        for programs, command in commands:
            condition = readiness.condition(programs, ready, options.get("cwd"))
            service = _begin(programs, command, dict(options))
            service.start_again = functools.partial(
                start, programs, command, ready=ready, timeout=timeout, options=options
            )
            started.append((service, condition))
        _wait_ready(started, timeout)
    except BaseException:
        for service, _ in reversed(started):
            service.stop()
        raise
    return [service for service, _ in started]


def _begin(programs: Programs, command: Command, options: dict[str, Any]) -> Service:
    """Start a service and the thread that reads its output."""
    programs.spawner()
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("start_new_session", True)  # Ctrl-C at the terminal is for pytest
    options.update(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=False, bufsize=0)
    make = functools.partial(Service, family=Family(programs))
    service = spawn(programs, command, make=make, **options)
    assert service.stdout is not None
    try:
        service.captured.begin(service.stdout)
    except NetnsError:
        service.stop()
        service.stdout.close()
        raise
    programs.services.append(service)
    return service


def _wait_ready(waiting: Sequence[tuple[Service, Condition]], timeout: float) -> None:
    """Wait until all are ready; all are polled, so that one that ends is noticed at once."""
    deadline = Deadline(timeout, last=_LAST_PAUSE)
    while True:
        missing = [(service, what) for service, condition in waiting if (what := _missing(service, condition))]
        if not missing:
            return
        if deadline.is_over():
            raise _not_ready(*missing[0], f"not ready after {timeout:g} s")
        waiting = [(service, condition) for service, condition in waiting if service in dict(missing)]
        deadline.pause()


def _missing(service: Service, condition: Condition) -> str:
    """What is still missing; "" once it is ready."""
    has_ended = service.poll() is not None and not service.is_daemon()
    if has_ended:
        service.wait_for_output()
    missing = condition(service)
    if not missing:
        service.family.started()
    elif has_ended:
        raise _not_ready(service, missing, f"it ended with {show_status(service.returncode)} before it was ready")
    return missing


def _not_ready(service: Service, missing: str, how: str) -> NotReadyError:
    what = f"{show_argv(service.args)!r} in namespace {service.programs.name!r}"
    error = NotReadyError(f"cannot start service {what}: {how}: {missing}", output=service.output)
    return note_refused(error, service.programs)

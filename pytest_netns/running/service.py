"""Services: programs that are ready to be used, and end with all that they have started."""

from __future__ import annotations

import contextlib
import functools
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pytest_netns.errors import NetnsError, NotReadyError, show_argv, show_status
from pytest_netns.kernel.system.waiting import Patience
from pytest_netns.running import halting, readiness
from pytest_netns.running.family import Family, Held
from pytest_netns.running.output import Output
from pytest_netns.running.process import STOP_GRACE, Command, Process, note_lacks, spawn
from pytest_netns.running.readiness import Condition, Ready

if TYPE_CHECKING:
    from pytest_netns.running.halting import Healable
    from pytest_netns.running.programs import Programs

_LAST_PAUSE = 0.02  # seconds between two questions whether a service is ready
_ASKED_TO_END = frozenset(
    {2, 9, 15}
)  # SIGINT, SIGKILL, SIGTERM; other systems, where suites are collected, lack some names


class Service(Process):
    """A program that is ready to be used; its output is kept, and shown when something goes wrong.

    Attributes:
        captured: what it has written.
        paused: undoes `pause`, while it is paused.
        family: which processes are its own.
        start_again: starts another one as this one was started.
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
        """What it has written so far to stdout and stderr (the last MiB), while it runs and afterwards."""
        return self.captured.text

    def stop(self, timeout: float = STOP_GRACE) -> int:
        """End it and all the processes it has started, so that its ports are free.

        The program itself gets SIGTERM; what is left once it has ended gets one too, and what has not ended within
        ``timeout`` seconds SIGKILL.

        Returns:
            Its exit status, as `subprocess.Popen.returncode`.
        """
        self._is_stopped = True
        patience = Patience(timeout)
        with Held(self.family) as held:
            held.look()
            if self.poll() is None:
                self.terminate()
                self._wake(held)
                self._wait_for_program(held, patience)
            if not held.wait(Patience(0)):
                held.send(signal.SIGTERM)
                self._wake(held)
                if not held.wait(patience) and not held.kill():
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
        """Have it and all the processes it has started stand still (SIGSTOP): its connections stay, nothing answers.

        Returns:
            A context manager; at the end of its block the service goes on.
        """
        if self.paused is None:
            self.paused = halting.pause(self)
        return self.paused

    def resume(self) -> None:
        """Have it go on after `pause`; nothing where it does."""
        if self.paused is not None:
            self.paused.heal()

    def restart(self) -> Service:
        """Stop it if it still runs, and start it anew: the same command and options, ready as before.

        Returns:
            The new service; this one has ended.
        """
        self.stop()
        return self.start_again()

    def send_signal(self, sig: int) -> None:
        """Signal the program; who sends SIGTERM, SIGINT or SIGKILL wants it to end."""
        if sig in _ASKED_TO_END:
            self._is_stopped = True
        super().send_signal(sig)

    @property
    def died(self) -> bool:
        """Whether it ended without having been asked to."""
        return not self._is_stopped and self.poll() is not None and not self.is_daemon()

    def is_daemon(self) -> bool:
        """Whether it has put itself into the background."""
        return self.returncode == 0 and bool(self.family.pids())

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def lab_closes(self) -> None:
        self._is_stopped = True

    def close_streams(self) -> None:
        self.wait_for_output()  # the thread that reads closes stdout
        if self.stdin is not None:
            with contextlib.suppress(OSError):
                self.stdin.close()

    def wait_for_output(self) -> None:
        """Wait for the last of the output."""
        self.captured.wait_for_rest()

    def _wake(self, held: Held) -> None:
        """What stands still does not end."""
        if self.paused is not None:
            held.send(signal.SIGCONT)
            self.paused.heal()

    def _wait_for_program(self, held: Held, patience: Patience) -> None:
        """The program may end its own children in good order; whom it has meanwhile is remembered."""
        while self.poll() is None and not patience.is_over():
            held.look()
            patience.pause()


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
    """Start it, its output being read."""
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
    """All are asked in turn, so that one that ends is noticed at once."""
    patience = Patience(timeout, last=_LAST_PAUSE)
    while True:
        lacks = [(service, lack) for service, condition in waiting if (lack := _lack(service, condition))]
        if not lacks:
            return
        if patience.is_over():
            raise _not_ready(*lacks[0], f"not ready after {timeout:g} s")
        waiting = [(service, condition) for service, condition in waiting if service in dict(lacks)]
        patience.pause()


def _lack(service: Service, condition: Condition) -> str:
    """What it still lacks; nothing once it is ready."""
    has_ended = service.poll() is not None and not service.is_daemon()
    if has_ended:
        service.wait_for_output()
    lack = condition(service)
    if not lack:
        service.family.started()
    elif has_ended:
        raise _not_ready(service, lack, f"it ended with {show_status(service.returncode)} before it was ready")
    return lack


def _not_ready(service: Service, lack: str, how: str) -> NotReadyError:
    what = f"{show_argv(service.args)!r} in namespace {service.programs.name!r}"
    error = NotReadyError(f"cannot start service {what}: {how}: {lack}", output=service.output)
    return note_lacks(error, service.programs)

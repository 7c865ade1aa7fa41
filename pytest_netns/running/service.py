"""Services: programs that are ready to be used, and how one knows that they are."""

from __future__ import annotations

import codecs
import collections
import contextlib
import functools
import io
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from pytest_netns import values
from pytest_netns.errors import NetnsError, NotReadyError, show_argv
from pytest_netns.kernel.netlink import listening
from pytest_netns.running.process import STOP_GRACE, Command, Process, note_lacks, spawn

if TYPE_CHECKING:
    from pytest_netns.kernel.programs.view import View
    from pytest_netns.running.programs import Programs

Ready: TypeAlias = "int | str | re.Pattern[str] | Callable[[], object]"

_CHUNK = 1 << 13
OUTPUT_LIMIT = 1 << 20  # characters of a service's output that are kept: the last ones
_POLL_FIRST, _POLL_LAST = 0.001, 0.02  # seconds between two looks at the kernel's socket tables


class Service(Process):
    """A program that is ready to be used; its output is kept, and shown when something goes wrong."""

    _chunks: collections.deque[str]
    _size: int
    _reader: threading.Thread
    _stopped: bool
    others: frozenset[int]
    start_again: Callable[[], Service]

    @property
    def output(self) -> str:
        """What it has written so far to stdout and stderr (the last MiB), while it runs and afterwards."""
        return "".join(self._chunks.copy())

    def stop(self, timeout: float = STOP_GRACE) -> int:
        """Ask it to end (SIGTERM), kill it if it has not within ``timeout`` seconds; returns its exit status."""
        self._stopped = True
        return super().stop(timeout)

    def restart(self) -> Service:
        """Stop it if it still runs, and start it anew: the same command and options, ready as before.

        Returns:
            The new service; this one has ended.
        """
        self.stop()
        return self.start_again()

    @property
    def died(self) -> bool:
        """Whether it ended without having been asked to."""
        return not self._stopped and self.poll() is not None and not (self.returncode == 0 and self.left_children())

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self.wait_for_output()

    def left_children(self) -> bool:
        """Whether it has put itself into the background, as daemons do."""
        return any(True for pid in _pids() if self.owns(pid))

    def begin_reading(self, stream: IO[bytes]) -> None:
        self._chunks = collections.deque()
        self._size = 0
        self._stopped = False
        self._reader = threading.Thread(target=self._read, args=(stream,), name="netns-output", daemon=True)
        self._reader.start()

    def _read(self, stream: IO[bytes]) -> None:
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
        with contextlib.suppress(ValueError, OSError), stream:
            while chunk := os.read(stream.fileno(), _CHUNK):  # not by lines: a prompt does not end in one
                text = decoder.decode(chunk)
                self._chunks.append(text)
                self._size += len(text)
                while self._size > OUTPUT_LIMIT:
                    self._size -= len(self._chunks.popleft())

    def lab_closes(self) -> None:
        self._stopped = True

    def close_streams(self) -> None:
        self.wait_for_output()  # the thread that reads closes stdout
        if self.stdin is not None:
            with contextlib.suppress(OSError):
                self.stdin.close()

    def wait_for_output(self) -> None:
        """Wait for the last of the output; a child may hold the pipe open, so not for long."""
        if self._reader.is_alive():
            self._reader.join(0.2)

    def owns(self, pid: int) -> bool:
        """Whether a process is this one, a descendant, or a descendant that has lost its parent (a daemon)."""
        spawned = {process.pid for process in self.programs.processes} - {self.pid}
        view = self.programs.view
        if view is None:
            return False
        while pid != self.pid:
            parent = _parent(pid)
            if parent in (0, 1, view.init.pid, os.getpid()):
                # An orphan. It is ours unless it was here before us; those started beside us have their own PID.
                return _is_orphan(pid, parent, view) and pid not in spawned and pid not in self.others
            pid = parent
        return True


def start(
    programs: Programs,
    command: Command,
    *,
    ready: Ready | None,
    timeout: float,
    options: dict[str, Any],
) -> Service:
    """Start a service and wait until it is ready; see `Namespace.start`."""
    condition = _condition(ready)
    start_again = functools.partial(start, programs, command, ready=ready, timeout=timeout, options=dict(options))
    view = programs.spawner()
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("start_new_session", True)  # Ctrl-C at the terminal is for pytest
    options.update(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=False, bufsize=0)
    others = frozenset(pid for pid in _pids() if _is_orphan(pid, _parent(pid), view))
    service = spawn(programs, command, process_class=Service, **options)
    assert isinstance(service, Service)
    service.others = others
    service.start_again = start_again
    assert service.stdout is not None
    try:
        service.begin_reading(service.stdout)
    except RuntimeError as error:  # "can't start new thread"
        service.stop()
        service.stdout.close()
        raise NetnsError(f"cannot start service {show_argv(service.args)!r}: {error}") from error
    programs.services.append(service)
    try:
        _wait_ready(service, condition, timeout)
    except BaseException:
        service.stop()
        raise
    return service


def _condition(ready: Ready | None) -> Callable[[Service], str]:
    """A function that says what a service still lacks; nothing once it is ready."""
    if ready is None:
        return lambda service: ""
    if isinstance(ready, re.Pattern):
        pattern = ready
        return lambda service: "" if pattern.search(service.output) else f"output does not match {pattern.pattern!r}"
    if callable(ready):
        function = ready
        return lambda service: "" if function() else f"{getattr(function, '__name__', function)!s} is not true"
    protocol, port = values.parse_service_port(ready)
    return lambda service: _lacks_listener(service, protocol, port)


def _lacks_listener(service: Service, protocol: str, port: int) -> str:
    strangers = []
    for found in listening.listening(service.programs.network, protocol):
        if found.port == port:
            holders = list(listening.holders(found.inode))
            if any(service.owns(pid) for pid in holders):
                return ""
            strangers += holders
    if strangers:
        listed = ", ".join(f"{pid} ({_program(pid)})" for pid in strangers)
        return f"{protocol} port {port} is held by another process, PID {listed}"
    return f"nothing listens on {protocol} port {port}"


def _wait_ready(service: Service, condition: Callable[[Service], str], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    delay = _POLL_FIRST
    what = f"{show_argv(service.args)!r} in namespace {service.programs.name!r}"
    while True:
        lack = condition(service)
        if not lack:
            return
        status = service.poll()
        if status is not None and (status != 0 or not service.left_children()):
            service.wait_for_output()
            lack = condition(service)
            if not lack:
                return
            how = f"it ended with {_show_status(status)} before it was ready"
        elif time.monotonic() >= deadline:
            how = f"not ready after {timeout:g} s"
        else:
            pause.wait(delay)
            delay = min(delay * 1.5, _POLL_LAST)
            continue
        error = NotReadyError(f"cannot start service {what}: {how}: {lack}", output=service.output)
        raise note_lacks(error, service.programs)


def wait_listening(programs: Programs, port: int, protocol: str, timeout: float) -> None:
    """Wait until some socket in the namespace listens; see `Namespace.wait_listening`."""
    values.parse_port(port)
    values.parse_protocol(protocol)
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    delay = _POLL_FIRST
    while True:
        found = listening.listening(programs.network, protocol)
        if any(listener.port == port for listener in found):
            return
        if time.monotonic() >= deadline:
            others = ", ".join(str(number) for number in sorted({listener.port for listener in found})) or "none"
            raise NotReadyError(
                f"cannot use {protocol} port {port} in namespace {programs.name!r}: nothing listens on it "
                f"after {timeout:g} s; {protocol} ports that are listened on: {others}"
            )
        pause.wait(delay)
        delay = min(delay * 1.5, _POLL_LAST)


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _parent(pid: int) -> int:
    """A process's parent; 0 where it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _is_orphan(pid: int, parent: int, view: View) -> bool:
    """Whether a process of the namespace has lost its parent: it is the init's then, or anybody's without PID namespace."""
    return parent == view.init.pid if view.has_pids else parent != os.getpid() and view.contains(pid)


def _program(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
            return comm.read().strip()
    except OSError:
        return "ended"


def _show_status(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-status).name}"
    return f"signal {-status}"

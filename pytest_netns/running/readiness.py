"""Readiness of services: the forms of `ready=`, and what is still missing."""

from __future__ import annotations

import errno
import inspect
import os
import re
import socket
import stat
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from pytest_netns import values
from pytest_netns.errors import CommandError, CommandTimeout, InvalidTopologyError, NotReadyError
from pytest_netns.kernel.spaces import listening
from pytest_netns.kernel.system import procfs, sockets
from pytest_netns.kernel.system.waiting import Deadline

if TYPE_CHECKING:
    from pytest_netns.running.programs import Programs
    from pytest_netns.running.service import Service

OneReady: TypeAlias = "int | str | os.PathLike[str] | re.Pattern[str] | Callable[[], object]"
Ready: TypeAlias = "OneReady | Sequence[OneReady]"
Condition: TypeAlias = "Callable[[Service], str]"

RetryOn: TypeAlias = "type[BaseException] | tuple[type[BaseException], ...]"

NOT_YET: tuple[type[BaseException], ...] = (
    CommandError,
    CommandTimeout,
    OSError,
)  # exceptions a condition may raise while it is not yet true
_LAST_PAUSE = 0.02  # seconds between two reads of the kernel's socket tables


def condition(programs: Programs, ready: Ready | None, cwd: str | os.PathLike[str] | None) -> Condition:
    """Return a function that describes what a service still lacks, "" once it is ready. Call it before the service starts."""
    if ready is None:
        return lambda service: ""
    if isinstance(ready, re.Pattern):
        pattern = ready
        return lambda service: "" if pattern.search(service.output) else f"output does not match {pattern.pattern!r}"
    if isinstance(ready, Sequence) and not isinstance(ready, str):
        conditions = [condition(programs, each, cwd) for each in ready]
        return lambda service: next((missing for each in conditions if (missing := each(service))), "")
    if isinstance(ready, os.PathLike) or (isinstance(ready, str) and "/" in (ready[:1], ready[1:2])):
        return _path_condition(programs, os.path.join(cwd or os.getcwd(), os.fspath(ready)))
    if callable(ready):
        return _function_condition(programs, ready)
    protocol, port = values.parse_service_port(ready)
    return lambda service: _missing_listener(service, protocol, port)


def check_is_function(function: object, instead: str) -> None:
    """Refuse a coroutine function where a function is expected: its coroutine is true, and would never run."""
    if inspect.iscoroutinefunction(function):
        raise InvalidTopologyError(
            f"cannot use coroutine function {show_function(function)} as condition: nothing would await it; {instead}"
        )


def check_is_result(result: object, function: object, instead: str) -> None:
    """The same check for the result of a function."""
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise InvalidTopologyError(
            f"cannot use what {show_function(function)} returns as condition: nothing would await it; {instead}"
        )


def show_function(function: object) -> str:
    """A function's name."""
    return str(getattr(function, "__qualname__", function))


def _function_condition(programs: Programs, function: Callable[[], object]) -> Condition:
    instead = "pass a function, such as one that uses ns.call"
    check_is_function(function, instead)

    def missing(service: Service) -> str:
        try:
            result = function()
        except NOT_YET as error:
            if isinstance(error, CommandError | CommandTimeout):
                programs.lab.records.withdraw_failure(error)
            return f"{show_function(function)} failed: {error}"
        check_is_result(result, function, instead)
        return "" if result else f"{show_function(function)} is not true"

    return missing


def _path_condition(programs: Programs, path: str) -> Condition:
    """A condition for a new file, or a unix socket with a listener, as seen by programs in the namespace."""
    view = programs.spawner()
    before = view.run(lambda: _file_identity(path))

    def missing(service: Service) -> str:
        return view.run(lambda: _missing_file(path, before))

    return missing


def _file_identity(path: str) -> tuple[int, ...]:
    try:
        stat = os.stat(path)
    except OSError:
        return ()
    return stat.st_dev, stat.st_ino, stat.st_ctime_ns


def _missing_file(path: str, before: tuple[int, ...]) -> str:
    identity = _file_identity(path)
    if not identity:
        return f"there is no {path}"
    if stat.S_ISSOCK(os.stat(path).st_mode):
        return _missing_unix_listener(path)
    return "" if identity != before else f"{path} existed before the service was started, and has not changed"


def _missing_unix_listener(path: str) -> str:
    with sockets.Socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except OSError as error:
            # EPROTOTYPE: a datagram socket; EAGAIN: it listens, but its backlog is full.
            if error.errno not in (errno.EPROTOTYPE, errno.EAGAIN):
                return f"nothing listens on {path}: {error.strerror}"
    return ""


def _missing_listener(service: Service, protocol: str, port: int) -> str:
    listeners = listening.listening(service.programs.network, protocol)
    service_pids: set[int] | None = None
    others: list[int] = []
    for listener in listeners:
        if listener.port == port:
            service_pids = set(service.family.pids()) if service_pids is None else service_pids
            holders = list(listening.holders(listener.inode))
            if any(pid in service_pids for pid in holders) or (not holders and any(map(_is_unreadable, service_pids))):
                return ""
            others += holders
    if others:
        listed = ", ".join(f"{pid} ({procfs.name(pid)})" for pid in others)
        return f"{protocol} port {port} is held by another process, PID {listed}"
    return f"nothing listens on {protocol} port {port}{_what_listens(service, protocol, port)}"


def _is_unreadable(pid: int) -> bool:
    """Whether another process's descriptors may not be inspected: it is not dumpable, prctl(PR_SET_DUMPABLE)."""
    try:
        os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _what_listens(service: Service, protocol: str, port: int) -> str:
    """A hint: the ports that may have been meant."""
    both = listening.listening(service.programs.network, "tcp", "udp")
    other = "udp" if protocol == "tcp" else "tcp"
    if any((listener.protocol, listener.port) == (other, port) for listener in both):
        return f", but {other} port {port} is listened on: write ready='{other}/{port}'"
    ports = sorted({listener.port for listener in both if listener.protocol == protocol})
    return f"; {protocol} ports that are listened on: {', '.join(map(str, ports)) or 'none'}"


def wait_listening(programs: Programs, port: int, protocol: str, timeout: float) -> None:
    """Wait until a socket in the namespace listens; see `Namespace.wait_listening`."""
    values.parse_port(port)
    values.parse_protocol(protocol)
    deadline = Deadline(timeout, last=_LAST_PAUSE)
    while True:
        listeners = listening.listening(programs.network, protocol)
        if any(listener.port == port for listener in listeners):
            return
        if deadline.is_over():
            others = ", ".join(str(number) for number in sorted({listener.port for listener in listeners})) or "none"
            raise NotReadyError(
                f"cannot use {protocol} port {port} in namespace {programs.name!r}: nothing listens on it "
                f"after {timeout:g} s; {protocol} ports that are listened on: {others}"
            )
        deadline.pause()

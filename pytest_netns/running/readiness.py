"""When a service is ready: what `ready=` may be, and what the service still lacks."""

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
from pytest_netns.kernel.system.waiting import Patience

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
)  # what a condition may raise while it is not true yet
_LAST_PAUSE = 0.02  # seconds between two looks at the kernel's socket tables


def condition(programs: Programs, ready: Ready | None, cwd: str | os.PathLike[str] | None) -> Condition:
    """A function that says what a service still lacks; nothing once it is ready. To be made before it is started."""
    if ready is None:
        return lambda service: ""
    if isinstance(ready, re.Pattern):
        pattern = ready
        return lambda service: "" if pattern.search(service.output) else f"output does not match {pattern.pattern!r}"
    if isinstance(ready, Sequence) and not isinstance(ready, str):
        conditions = [condition(programs, each, cwd) for each in ready]
        return lambda service: next((lack for each in conditions if (lack := each(service))), "")
    if isinstance(ready, os.PathLike) or (isinstance(ready, str) and "/" in (ready[:1], ready[1:2])):
        return _path_condition(programs, os.path.join(cwd or os.getcwd(), os.fspath(ready)))
    if callable(ready):
        return _function_condition(programs, ready)
    protocol, port = values.parse_service_port(ready)
    return lambda service: _lacks_listener(service, protocol, port)


def check_is_function(function: object, instead: str) -> None:
    """Refuse a coroutine function where a function is expected: its coroutine is true, and would never run."""
    if inspect.iscoroutinefunction(function):
        raise InvalidTopologyError(
            f"cannot use coroutine function {show_function(function)} as condition: nothing would await it; {instead}"
        )


def check_is_result(found: object, function: object, instead: str) -> None:
    """The same for what a function has returned."""
    if inspect.isawaitable(found):
        if inspect.iscoroutine(found):
            found.close()
        raise InvalidTopologyError(
            f"cannot use what {show_function(function)} returns as condition: nothing would await it; {instead}"
        )


def show_function(function: object) -> str:
    """A function's name."""
    return str(getattr(function, "__qualname__", function))


def _function_condition(programs: Programs, function: Callable[[], object]) -> Condition:
    instead = "pass a function, such as one that uses ns.call"
    check_is_function(function, instead)

    def lacks(service: Service) -> str:
        try:
            found = function()
        except NOT_YET as error:
            if isinstance(error, CommandError | CommandTimeout):
                programs.lab.records.withdraw_failure(error)
            return f"{show_function(function)} failed: {error}"
        check_is_result(found, function, instead)
        return "" if found else f"{show_function(function)} is not true"

    return lacks


def _path_condition(programs: Programs, path: str) -> Condition:
    """A file that is new, or a unix socket that somebody listens on, as programs in the namespace see it."""
    view = programs.spawner()
    before = view.run(lambda: _file_identity(path))

    def lacks(service: Service) -> str:
        return view.run(lambda: _lacks_file(path, before))

    return lacks


def _file_identity(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _lacks_file(path: str, before: tuple[int, ...]) -> str:
    found = _file_identity(path)
    if not found:
        return f"there is no {path}"
    if stat.S_ISSOCK(os.stat(path).st_mode):
        return _lacks_unix_listener(path)
    return "" if found != before else f"{path} was there before the service was started, and has not changed"


def _lacks_unix_listener(path: str) -> str:
    with sockets.Socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except OSError as error:
            # EPROTOTYPE: a datagram socket; EAGAIN: it listens, but has not accepted others yet.
            if error.errno not in (errno.EPROTOTYPE, errno.EAGAIN):
                return f"nothing listens on {path}: {error.strerror}"
    return ""


def _lacks_listener(service: Service, protocol: str, port: int) -> str:
    listeners = listening.listening(service.programs.network, protocol)
    own: set[int] | None = None
    strangers: list[int] = []
    for found in listeners:
        if found.port == port:
            own = set(service.family.pids()) if own is None else own
            holders = list(listening.holders(found.inode))
            if any(pid in own for pid in holders) or (not holders and any(map(_is_closed_to_us, own))):
                return ""
            strangers += holders
    if strangers:
        listed = ", ".join(f"{pid} ({procfs.name(pid)})" for pid in strangers)
        return f"{protocol} port {port} is held by another process, PID {listed}"
    return f"nothing listens on {protocol} port {port}{_what_listens(service, protocol, port)}"


def _is_closed_to_us(pid: int) -> bool:
    """Whether this process may not look at another's descriptors: it has said so by prctl(PR_SET_DUMPABLE), or its file has."""
    try:
        os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _what_listens(service: Service, protocol: str, port: int) -> str:
    """The ports that a wrong one may have been mistaken for."""
    both = listening.listening(service.programs.network, "tcp", "udp")
    other = "udp" if protocol == "tcp" else "tcp"
    if any((found.protocol, found.port) == (other, port) for found in both):
        return f", but {other} port {port} is listened on: write ready='{other}/{port}'"
    ports = sorted({found.port for found in both if found.protocol == protocol})
    return f"; {protocol} ports that are listened on: {', '.join(map(str, ports)) or 'none'}"


def wait_listening(programs: Programs, port: int, protocol: str, timeout: float) -> None:
    """Wait until some socket in the namespace listens; see `Namespace.wait_listening`."""
    values.parse_port(port)
    values.parse_protocol(protocol)
    patience = Patience(timeout, last=_LAST_PAUSE)
    while True:
        found = listening.listening(programs.network, protocol)
        if any(listener.port == port for listener in found):
            return
        if patience.is_over():
            others = ", ".join(str(number) for number in sorted({listener.port for listener in found})) or "none"
            raise NotReadyError(
                f"cannot use {protocol} port {port} in namespace {programs.name!r}: nothing listens on it "
                f"after {timeout:g} s; {protocol} ports that are listened on: {others}"
            )
        patience.pause()

"""Name resolution in the test's own threads: inside a namespace, `socket`'s lookups use the namespace's files.

The mount namespace decides which /etc/hosts and /etc/resolv.conf a lookup reads, and a thread that shares its
current directory with others cannot change it. So a lookup by a thread inside a namespace runs on a helper
thread that has the namespace's mounts. Numeric addresses need no lookup and are answered directly.

Only Python's own functions are replaced: a C library that calls getaddrinfo(3) itself sees the names outside,
except in `ns.call` and in programs.
"""

from __future__ import annotations

import _socket
import functools
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_netns.errors import LabClosedError
from pytest_netns.kernel.spaces import moving
from pytest_netns.kernel.system import threads
from pytest_netns.kernel.system.sockets import Socket

if TYPE_CHECKING:
    from pytest_netns.running.programs import Programs

_HOST_FUNCTIONS = ("gethostbyname", "gethostbyname_ex", "gethostbyaddr")
_METHODS = ("connect", "connect_ex", "bind", "sendto")  # these look up host names given to them

_lock = threading.Lock()
_entered: dict[int, Programs] = {}  # by inode, the programs of entered namespaces of open labs
_ORIGINALS: dict[str, Callable[..., Any]] = {
    name: getattr(_socket, name) for name in ("getaddrinfo", "getnameinfo", *_HOST_FUNCTIONS)
}


def register(programs: Programs) -> None:
    """Have lookups by threads inside this namespace use its files."""
    with _lock:
        if not _entered:
            _install()
        _entered[programs.inode] = programs


def unregister(programs: Programs) -> None:
    """Undo `register`; after the last one, `socket` is restored."""
    with _lock:
        if _entered.pop(programs.inode, None) is not None and not _entered:
            _remove()


def current() -> Programs | None:
    """The programs of the calling thread's namespace, however it entered it."""
    return _entered.get(moving.current_inode()) if _entered else None


def _run_inside(programs: Programs, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run a lookup on a thread that has the namespace's mounts."""
    programs.spawner()  # errors are raised here, in the caller
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            programs.enter_for_python()
            outcome.append(function(*args, **options))
        except BaseException as error:
            failure.append(error)

    helper = threading.Thread(target=work, name=f"netns-names-{programs.name}", daemon=True)
    threads.start(helper, f"look up a name in namespace {programs.name!r}")
    helper.join()
    if failure:
        if not programs.is_open:  # its files are gone
            raise LabClosedError(programs.name) from failure.pop()
        raise failure.pop()
    return outcome[0]


def _is_number(host: Any) -> bool:
    """Whether there is nothing to look up: a numeric address, or no host."""
    if host is None or host in ("", b""):
        return True
    try:
        _ORIGINALS["getaddrinfo"](host, None, 0, 0, 0, _socket.AI_NUMERICHOST)
    except (OSError, TypeError, ValueError):
        return False
    return True


def _getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
    programs = None if _is_number(host) else current()
    if programs is None:
        return _ORIGINALS["getaddrinfo"](host, port, family, type, proto, flags)
    return _run_inside(programs, _look_up, host, port, family, type, proto, flags)


def _look_up(host: Any, port: Any, family: int, type: int, proto: int, flags: int) -> Any:
    """Look up inside a namespace: if it has only the loopback interface, AI_ADDRCONFIG would hide even localhost."""
    try:
        return _ORIGINALS["getaddrinfo"](host, port, family, type, proto, flags)
    except OSError:
        if host not in ("localhost", b"localhost") or not flags & _socket.AI_ADDRCONFIG:
            raise
        return _ORIGINALS["getaddrinfo"](host, port, family, type, proto, flags & ~_socket.AI_ADDRCONFIG)


def _getnameinfo(sockaddr: Any, flags: int, /) -> Any:
    original = _ORIGINALS["getnameinfo"]
    programs = None if flags & _socket.NI_NUMERICHOST else current()
    return original(sockaddr, flags) if programs is None else _run_inside(programs, original, sockaddr, flags)


def _by_host(name: str, host: Any, /) -> Any:
    """gethostbyname and similar functions; gethostbyaddr also looks up numeric addresses."""
    original = _ORIGINALS[name]
    programs = None if name != "gethostbyaddr" and _is_number(host) else current()
    if programs is None:
        return original(host)
    return _run_inside(programs, original, host)


_functions: dict[str, Callable[..., Any]] = {"getnameinfo": _getnameinfo}
for _name in _HOST_FUNCTIONS:
    _functions[_name] = functools.partial(_by_host, _name)
for _name, _function in _functions.items():
    functools.update_wrapper(_function, _ORIGINALS[_name])
functools.update_wrapper(_getaddrinfo, _ORIGINALS["getaddrinfo"])


def _method(name: str) -> Callable[..., Any]:
    original = getattr(_socket.socket, name)

    @functools.wraps(original)
    def method(self: socket.socket, *args: Any) -> Any:
        address = args[-1] if args else None
        if isinstance(address, tuple) and address and self.family in (socket.AF_INET, socket.AF_INET6):
            args = (*args[:-1], _with_number(self, address))  # pyright: ignore[reportUnknownArgumentType]
        return (_replaced_methods.get(name) or original)(self, *args)

    return method


def _with_number(sock: socket.socket, address: tuple[Any, ...]) -> tuple[Any, ...]:
    """Resolve the host name in a socket address, if there is one."""
    host = bytes(address[0]) if isinstance(address[0], bytearray) else address[0]
    if not isinstance(host, str | bytes) or host in ("<broadcast>", b"<broadcast>") or _is_number(host):
        return address
    programs = current()
    if programs is None:
        return address
    answers = _run_inside(programs, _ORIGINALS["getaddrinfo"], host, None, sock.family, sock.type)
    return (answers[0][4][0], *address[1:])


_methods = {name: _method(name) for name in _METHODS}
_replaced_methods: dict[
    str, Callable[..., Any]
] = {}  # methods that another library installed before, such as pytest-socket


# The modules that have one of the functions under its name: socket itself, and those with `from socket import ...`.
_places: list[tuple[dict[str, Any], str]] = []
_scanned: set[str] = {"_socket"}
_scanned_until: tuple[int, str] = (0, "")  # the number of modules then, and the last one


def _install() -> None:
    _socket.getaddrinfo = _getaddrinfo  # called by `socket.getaddrinfo`, wherever that was imported
    _find_places()
    for names, name in _places:
        if names.get(name) is _ORIGINALS[name]:
            names[name] = _functions[name]
    for name, method in _methods.items():
        present = vars(Socket).get(name)
        if present is not method:
            if present is not None:
                _replaced_methods[name] = present
            setattr(Socket, name, method)


def _find_places() -> None:
    """Search the modules imported since the last time; comparing all their names takes longer than a namespace's set-up."""
    global _scanned_until
    until = len(sys.modules), next(reversed(sys.modules))
    if until == _scanned_until:
        return
    new = sys.modules.keys() - _scanned
    _scanned.update(new)
    for module in new:
        names: dict[str, Any] | None = getattr(sys.modules.get(module), "__dict__", None)
        if type(names) is dict:
            _places.extend((names, name) for name in _functions if names.get(name) is _ORIGINALS[name])
    _scanned_until = until


def _remove() -> None:
    """Restore what we replaced; later replacements by others stay, and ours then only forward."""
    if _socket.getaddrinfo is _getaddrinfo:
        _socket.getaddrinfo = _ORIGINALS["getaddrinfo"]
    for names, name in _places:
        if names.get(name) is _functions[name]:
            names[name] = _ORIGINALS[name]
    for name, method in _methods.items():
        if vars(Socket).get(name) is method:
            if name in _replaced_methods:
                setattr(Socket, name, _replaced_methods.pop(name))
            else:
                delattr(Socket, name)

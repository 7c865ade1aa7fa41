"""Detect accesses to a lab's addresses and names from outside of every namespace, such as after a forgotten `with red:`.

Python's audit events report connections, lookups and started programs. An audit hook cannot be removed. It is added
by the first test that has a lab, and does nothing while no such test runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_netns.errors import show_argv
from pytest_netns.kernel.spaces import moving

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab

_SIOCGSKNS = 0x894C  # a descriptor of the network namespace of a socket, linux/sockios.h
_MOST = 100  # accesses kept for a test
_NOT_ADDRESS = re.compile(r"[^0-9A-Fa-f.:]+")
_WHERE = "outside of every namespace"


class Access(NamedTuple):
    """An access from outside.

    Attributes:
        hosts: the addresses and names accessed.
        program: the program that was started with them, if any.
        is_connection: whether packets are sent to them.
    """

    hosts: tuple[str, ...]
    program: str = ""
    is_connection: bool = False


class _Test:
    """The running test.

    Attributes:
        home: the inode of the network namespace outside.
        accesses: its accesses from there, in order.
    """

    def __init__(self) -> None:
        self.home = moving.current_inode()
        self.accesses: dict[Access, None] = {}


_test: _Test | None = None


def begin() -> None:
    """Start detection for the body of a test that has labs; the calling thread is outside."""
    global _test
    _test = _Test()
    _install_hook()


@functools.cache
def _install_hook() -> None:
    sys.addaudithook(_hook)


def end() -> list[Access]:
    """End detection; returns the accesses."""
    global _test
    ended, _test = _test, None
    return [] if ended is None else list(ended.accesses)


def warn(category: type[Warning], accesses: Sequence[Access], labs: Iterable[Lab]) -> None:
    """Warn about connections to a lab's addresses: the packets did not reach the lab."""
    connections = [each for each in accesses if each.is_connection]
    for sentence in explain(connections, labs) if connections else ():
        warnings.warn(category(sentence), stacklevel=2)


def explain(accesses: Iterable[Access], labs: Iterable[Lab]) -> list[str]:
    """A sentence for each access to an address or name of a lab."""
    owners = dict(_owners(labs))
    lines: dict[str, None] = {}
    for each in accesses:
        for host in each.hosts:
            if host in owners:
                lines[_sentence(each, host, owners[host])] = None
    return list(lines)


def _sentence(access: Access, host: str, owner: str) -> str:
    whose = f"{host} belongs to {owner}" if host != owner else f"{host} is a namespace"
    if access.program:
        return f"{whose}, but {access.program} ran {_WHERE}: start it with run, start or popen of a namespace"
    done = "the socket was created" if access.is_connection else "it was looked up"
    return f"{whose}, but {done} {_WHERE}: write `with NAMESPACE:` around it, or use call or create_connection of a namespace"


def _owners(labs: Iterable[Lab]) -> Iterator[tuple[str, str]]:
    """The addresses and names of labs, each with its namespace."""
    for lab in labs:
        with contextlib.suppress(Exception):  # closed meanwhile
            for namespace in lab:
                yield namespace.name, namespace.name
                for address in lab.names.addresses(namespace.name):
                    yield str(address), namespace.name


def _hook(event: str, args: tuple[Any, ...]) -> None:
    handler = _HANDLERS.get(event)
    if handler is not None and _test is not None:
        with contextlib.suppress(Exception):  # the hook must not make the audited operation fail
            handler(_test, *args)


def _connecting(test: _Test, sock: Any, address: Any = None) -> None:
    if isinstance(address, tuple) and isinstance(address[0], str) and _network_of(sock.fileno()) == test.home:
        _add(test, Access((address[0],), is_connection=True))


def _network_of(descriptor: int) -> int:
    """The inode of a socket's network namespace, regardless of the thread that uses it."""
    namespace = fcntl.ioctl(descriptor, _SIOCGSKNS)
    try:
        return os.fstat(namespace).st_ino
    finally:
        os.close(namespace)


def _looking_up(test: _Test, host: Any, *_: Any) -> None:
    if isinstance(host, str) and moving.current_inode() == test.home:
        _add(test, Access((host,)))


def _starting(test: _Test, executable: Any, argv: Any, *_: Any) -> None:
    arguments = [argv] if isinstance(argv, str | bytes | os.PathLike) else argv
    parts = {part.strip(".:") for argument in arguments for part in _NOT_ADDRESS.split(os.fsdecode(argument))}
    hosts = {host for part in parts for host in (part, part.rpartition(":")[0]) if "." in host or ":" in host}
    if hosts and moving.current_inode() == test.home:
        _add(test, Access(tuple(sorted(hosts)), program=show_argv(argv)))


def _add(test: _Test, access: Access) -> None:
    if len(test.accesses) < _MOST:
        test.accesses[access] = None


_HANDLERS: dict[str, Callable[..., None]] = {
    "socket.connect": _connecting,
    "socket.sendto": _connecting,
    "socket.getaddrinfo": _looking_up,
    "socket.gethostbyname": _looking_up,
    "subprocess.Popen": _starting,
}

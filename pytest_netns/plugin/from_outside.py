"""What a test asks of its labs outside of every namespace, such as where `with red:` was forgotten: it is told so.

Python's audit events say who connects where, looks up what, and starts which program. An audit hook stays for the rest of
the process, and is there from the first test that has a lab; while no such test runs it does nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
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
_MOST = 100  # things asked that are kept for a test
_NOT_ADDRESS = re.compile(r"[^0-9A-Fa-f.:]+")
_WHERE = "outside of every namespace"


class Asked(NamedTuple):
    """Something that was asked outside.

    Attributes:
        hosts: addresses and names in it.
        program: the program that was started with them, if it was one.
        is_connection: whether a packet goes there.
    """

    hosts: tuple[str, ...]
    program: str = ""
    is_connection: bool = False


class _Test:
    """The test that runs.

    Attributes:
        home: the number of the network namespace outside.
        asked: what it has asked there, in order.
    """

    def __init__(self) -> None:
        self.home = moving.current_inode()
        self.asked: dict[Asked, None] = {}


_test: _Test | None = None
_is_installed = False


def begin() -> None:
    """The body of a test that has labs begins; the calling thread is outside."""
    global _test, _is_installed
    _test = _Test()
    if not _is_installed:
        _is_installed = True
        sys.addaudithook(_hook)


def end() -> list[Asked]:
    """It has ended; returns what it has asked for outside."""
    global _test
    ended, _test = _test, None
    return [] if ended is None else list(ended.asked)


def warn(category: type[Warning], asked: Sequence[Asked], labs: Iterable[Lab]) -> None:
    """Warn of connections to a lab's addresses: the packets went elsewhere, whoever answered."""
    connections = [each for each in asked if each.is_connection]
    for sentence in explain(connections, labs) if connections else ():
        warnings.warn(category(sentence), stacklevel=2)


def explain(asked: Iterable[Asked], labs: Iterable[Lab]) -> list[str]:
    """A sentence for each thing asked outside that is a lab's."""
    owners = dict(_owners(labs))
    found: dict[str, None] = {}
    for each in asked:
        for host in each.hosts:
            if host in owners:
                found[_sentence(each, host, owners[host])] = None
    return list(found)


def _sentence(asked: Asked, host: str, owner: str) -> str:
    whose = f"{host} is {owner}'s" if host != owner else f"{host} is a namespace"
    if asked.program:
        return f"{whose}, but {asked.program} ran {_WHERE}: start it by run, start or popen of a namespace"
    done = "the socket was made" if asked.is_connection else "it was looked up"
    return f"{whose}, but {done} {_WHERE}: write `with NAMESPACE:` around it, or use call or create_connection of a namespace"


def _owners(labs: Iterable[Lab]) -> Iterator[tuple[str, str]]:
    """Addresses and names of labs, with the namespace whose they are."""
    for lab in labs:
        with contextlib.suppress(Exception):  # closed meanwhile
            for namespace in lab:
                yield namespace.name, namespace.name
                for address in lab.names.addresses(namespace.name):
                    yield str(address), namespace.name


def _hook(event: str, args: tuple[Any, ...]) -> None:
    look = _LOOKS.get(event)
    if look is not None and _test is not None:
        with contextlib.suppress(Exception):  # it must not be a reason for what is audited to fail
            look(_test, *args)


def _connecting(test: _Test, sock: Any, address: Any = None) -> None:
    if isinstance(address, tuple) and isinstance(address[0], str) and _network_of(sock.fileno()) == test.home:
        _add(test, Asked((address[0],), is_connection=True))


def _network_of(descriptor: int) -> int:
    """The number of the network namespace a socket belongs to: whichever thread uses it."""
    namespace = fcntl.ioctl(descriptor, _SIOCGSKNS)
    try:
        return os.fstat(namespace).st_ino
    finally:
        os.close(namespace)


def _looking_up(test: _Test, host: Any, *_: Any) -> None:
    if isinstance(host, str) and moving.current_inode() == test.home:
        _add(test, Asked((host,)))


def _starting(test: _Test, executable: Any, argv: Any, *_: Any) -> None:
    words = [argv] if isinstance(argv, str | bytes | os.PathLike) else argv
    parts = {part.strip(".:") for word in words for part in _NOT_ADDRESS.split(os.fsdecode(word))}
    hosts = {host for part in parts for host in (part, part.rpartition(":")[0]) if "." in host or ":" in host}
    if hosts and moving.current_inode() == test.home:
        _add(test, Asked(tuple(sorted(hosts)), program=show_argv(argv)))


def _add(test: _Test, asked: Asked) -> None:
    if len(test.asked) < _MOST:
        test.asked[asked] = None


_LOOKS: dict[str, Callable[..., None]] = {
    "socket.connect": _connecting,
    "socket.sendto": _connecting,
    "socket.getaddrinfo": _looking_up,
    "socket.gethostbyname": _looking_up,
    "subprocess.Popen": _starting,
}

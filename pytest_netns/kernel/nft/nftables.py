"""nft rulesets, applied in-process by libnftables through its official Python bindings."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]
import contextlib
import functools
import importlib
import importlib.util
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol, cast

from pytest_netns.errors import RulesetError, UnavailableError
from pytest_netns.kernel.nft import bindings, unsupported
from pytest_netns.kernel.system import diagnosis, sockets

_NETLINK_NETFILTER = 12
_SIGNALS = frozenset(map(int, signal.valid_signals()))
# Not the signal module's own function, which creates an enum member for each number: 100 us.
_set_mask = cast("Callable[[int, Iterable[int]], set[int]]", _signal.pthread_sigmask)

_lock = threading.Lock()  # libnftables keeps state in global variables


class Place(Protocol):
    """A network namespace that a thread can enter for a block."""

    name: str

    def entered(self) -> contextlib.AbstractContextManager[object]:
        """Enter the namespace for the duration of a block."""
        ...


class Nft:
    """libnftables for one namespace. Creating it takes as long as three rules, so reuse it for many rulesets.

    Args:
        place: the namespace to configure, regardless of the thread that uses this later.

    Raises:
        UnavailableError: the bindings or libnftables are not installed, or the kernel has no nftables.
    """

    def __init__(self, place: Place) -> None:
        module = load()
        self._name = place.name
        with _lock, place.entered(), _closed_on_exec():
            self._context: Any = module.Nftables()  # bound to the namespace it is created in

    def apply(self, text: str) -> str:
        """Run a ruleset of our own in one transaction; returns its output.

        For a ruleset that a user wrote use `command.apply`: libnftables crashes on some input.

        Raises:
            RulesetError: nft refused it; nothing was applied.
            UnavailableError: nft refused it because the kernel lacks what it needs.
        """
        error, output = self._run(text)
        if error is not None:
            raise self.explain(text, error)
        return output

    def explain(self, text: str, error: str) -> RulesetError | UnavailableError:
        """The error for a ruleset that nft refused with this message."""
        missing = unsupported.find(text, error, lambda probe: self._run(probe)[0] or "")
        return RulesetError(text, error, namespace=self._name) if missing is None else missing

    def _run(self, text: str) -> tuple[str | None, str]:
        """Run a ruleset; returns nft's error message, None on success, and its output."""
        with _lock, _without_signals():
            status, output, error = self._context.cmd(text)
        return str(error) if status != 0 else None, str(output)

    def close(self) -> None:
        """Release the namespace; idempotent."""
        self._context = None  # drops drops the last reference: the bindings free it


def apply(place: Place, text: str) -> str:
    """Run one ruleset of our own in a namespace; returns its output.

    Raises:
        RulesetError: nft refused it; nothing was applied.
        UnavailableError: the bindings or libnftables are not installed, or the kernel lacks what the ruleset needs.
    """
    nft = Nft(place)
    try:
        return nft.apply(text)
    finally:
        nft.close()


@contextlib.contextmanager
def _without_signals() -> Generator[None]:
    """Block signals in this thread: libnftables treats EINTR as a refusal after sending half of its messages."""
    before = _set_mask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        _set_mask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _closed_on_exec() -> Generator[None]:
    """Make the socket that libnftables opens close-on-exec: inherited by a program, it would keep the namespace alive."""
    expected = _lowest_free()
    yield
    # Unless another thread has opened or closed a file just now: then look at all, which takes ten times as long.
    for fd in [expected] if _is_netfilter_socket(expected) else _descriptors():
        if _is_netfilter_socket(fd):
            with contextlib.suppress(OSError):  # closed by another thread
                os.set_inheritable(fd, False)


def _lowest_free() -> int:
    """The number the next descriptor will have."""
    fd = os.open("/", os.O_PATH | os.O_CLOEXEC)
    os.close(fd)
    return fd


def _is_netfilter_socket(fd: int) -> bool:
    try:
        found = sockets.Socket(fileno=fd)
    except OSError:  # another kind of file, or none
        return False
    kind = (found.family, found.proto)
    found.detach()
    return kind == (socket.AF_NETLINK, _NETLINK_NETFILTER)


def _descriptors() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/proc/self/fd")}
    except OSError:  # no /proc
        return set()


@functools.cache
def load() -> ModuleType:
    """Import the bindings.

    Raises:
        UnavailableError: the bindings or libnftables are not installed, or the kernel has no nftables.
    """
    _check_kernel()
    try:
        module = _import_bindings()
        _open_library_once(module)
        module.Nftables()
    except (ImportError, OSError) as error:
        raise UnavailableError(unsupported.FEATURE, str(error), bindings.REMEDY) from error
    return module


def _check_kernel() -> None:
    """Check for netfilter sockets: without them libnftables would end the process with exit(3)."""
    try:
        sockets.Socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER).close()
    except OSError as error:
        cause, remedy = diagnosis.explain("nft", error.errno or 0)
        raise UnavailableError(unsupported.FEATURE, cause, remedy) from error


def _import_bindings() -> ModuleType:
    path = bindings.find()
    if path is None:
        raise ImportError("nft's Python bindings (module nftables) are not installed")
    spec = importlib.util.spec_from_file_location("nftables", path)
    if "nftables" in sys.modules or spec is None or spec.loader is None:
        return importlib.import_module("nftables")
    module = importlib.util.module_from_spec(spec)
    sys.modules["nftables"] = module  # its relative import needs the entry
    spec.loader.exec_module(module)
    return module


def _open_library_once(module: ModuleType) -> None:
    """Load the library once: the bindings load it for every context, which takes longer than most rulesets."""
    inner: Any = sys.modules[module.Nftables.__module__]
    if hasattr(inner, "cdll"):
        inner.cdll = SimpleNamespace(LoadLibrary=functools.cache(inner.cdll.LoadLibrary))

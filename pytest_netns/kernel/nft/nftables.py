"""nft rulesets, applied in-process by libnftables through its official Python bindings."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol

from pytest_netns.errors import RulesetError, UnavailableError
from pytest_netns.kernel.nft import bindings, lacking
from pytest_netns.kernel.system import diagnosis, sockets

_NETLINK_NETFILTER = 12

_lock = threading.Lock()  # libnftables keeps state in global variables


class Place(Protocol):
    """A network namespace that a thread can be inside for the time of a block."""

    name: str

    def entered(self) -> contextlib.AbstractContextManager[object]:
        """The calling thread is inside for the time of the block."""
        ...


class Nft:
    """libnftables for one namespace; making it takes as long as three rules, so it is kept where many follow.

    Args:
        place: the namespace; its rules are changed whatever thread uses this later.

    Raises:
        UnavailableError: the bindings or libnftables are not installed, or the kernel has no nftables.
    """

    def __init__(self, place: Place) -> None:
        module = load()
        self._name = place.name
        with _lock, place.entered(), _closed_on_exec():
            self._context: Any = module.Nftables()  # bound to the namespace it is made in

    def apply(self, text: str) -> str:
        """Have nft carry out a text of ours in one transaction; returns its output.

        A text that a user wrote is for `command.apply`: libnftables does not survive every text.

        Raises:
            RulesetError: nft refused it; nothing of it was applied.
            UnavailableError: nft refused it because the kernel lacks what it needs.
        """
        error, output = self._carry_out(text)
        if error is not None:
            raise self.explain(text, error)
        return output

    def explain(self, text: str, error: str) -> RulesetError | UnavailableError:
        """What nft's refusal of a text, its message, means."""
        lack = lacking.find(text, error, lambda probe: self._carry_out(probe)[0] or "")
        return RulesetError(text, error, namespace=self._name) if lack is None else lack

    def _carry_out(self, text: str) -> tuple[str | None, str]:
        """nft's message where it refused the text, else None, and its output."""
        with _lock, _without_signals():
            status, output, error = self._context.cmd(text)
        return str(error) if status != 0 else None, str(output)

    def close(self) -> None:
        """Let go of the namespace; idempotent."""
        self._context = None  # the last reference: the bindings free it


def apply(place: Place, text: str) -> str:
    """Have nft carry out one text of ours in a namespace; returns its output.

    Raises:
        RulesetError: nft refused it; nothing of it was applied.
        UnavailableError: the bindings or libnftables are not installed, or the kernel lacks what the text needs.
    """
    nft = Nft(place)
    try:
        return nft.apply(text)
    finally:
        nft.close()


@contextlib.contextmanager
def _without_signals() -> Iterator[None]:
    """No signal interrupts this thread: libnftables takes EINTR for a refusal, and has sent half of its messages."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _closed_on_exec() -> Iterator[None]:
    """The socket that libnftables opens meanwhile is not inherited by programs: it would keep the namespace alive."""
    before = _descriptors()
    yield
    for fd in _descriptors() - before:
        with contextlib.suppress(OSError):  # of another thread, closed already
            os.set_inheritable(fd, False)


def _descriptors() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/proc/self/fd")}
    except OSError:  # no /proc
        return set()


@functools.cache
def load() -> ModuleType:
    """The bindings, wherever they are.

    Raises:
        UnavailableError: they are not installed, or their library is not, or the kernel lacks what they need.
    """
    _check_kernel()
    try:
        module = _import_bindings()
        _open_library_once(module)
        module.Nftables()
    except (ImportError, OSError) as error:
        raise UnavailableError(lacking.FEATURE, str(error), bindings.REMEDY) from error
    return module


def _check_kernel() -> None:
    """Where the kernel does not know netfilter's sockets libnftables would end the process with exit(3)."""
    try:
        sockets.Socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER).close()
    except OSError as error:
        cause, remedy = diagnosis.explain("nft", error.errno or 0)
        raise UnavailableError(lacking.FEATURE, cause, remedy) from error


def _import_bindings() -> ModuleType:
    path = bindings.find()
    if path is None:
        raise ImportError("nft's Python bindings (module nftables) are not installed")
    spec = importlib.util.spec_from_file_location("nftables", path)
    if "nftables" in sys.modules or spec is None or spec.loader is None:
        return importlib.import_module("nftables")
    module = importlib.util.module_from_spec(spec)
    sys.modules["nftables"] = module  # its own relative import needs it there
    spec.loader.exec_module(module)
    return module


def _open_library_once(module: ModuleType) -> None:
    """The bindings open their library anew for every context, which takes longer than most rulesets."""
    inner: Any = sys.modules[module.Nftables.__module__]
    if hasattr(inner, "cdll"):
        inner.cdll = SimpleNamespace(LoadLibrary=functools.cache(inner.cdll.LoadLibrary))

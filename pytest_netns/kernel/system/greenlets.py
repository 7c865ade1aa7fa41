"""gevent and eventlet: if they have patched Python, a "thread" is a greenlet, and cannot enter a namespace alone."""

from __future__ import annotations

import sys

from pytest_netns.errors import UnavailableError

_MODULES = ("thread", "threading", "socket", "subprocess")


def require_real_threads() -> None:
    """Refuse to create namespaces if threads, sockets or processes have been patched.

    Raises:
        UnavailableError: they have; names the library.
    """
    for library in ("gevent", "eventlet"):
        if library in sys.modules and _has_patched(library):
            raise UnavailableError(
                "network namespaces",
                f"{library} has patched this process, where all greenlets share one thread: one that enters a namespace "
                "would move all others too",
                f"run these tests in a process without {library}'s monkey patches; programs that use {library} can be "
                "started with ns.run and ns.start",
            )


def _has_patched(library: str) -> bool:
    if library == "gevent":
        monkey = sys.modules.get("gevent.monkey")
        return monkey is not None and any(monkey.is_module_patched(name) for name in _MODULES)
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and any(patcher.is_monkey_patched(name) for name in ("thread", "socket", "subprocess"))

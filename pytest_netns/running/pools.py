"""Make thread pools respect namespaces: they outlive the block that first uses them, so each job carries its namespace.

A job submitted to a `ThreadPoolExecutor` (such as asyncio's default executor and asgiref's), to the worker threads of trio or
anyio, or to a Twisted pool, such as its reactor's, runs in the network namespace of the submitting thread, whichever
worker runs it. The workers themselves are started outside of every namespace, and keep none alive.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from pytest_netns.kernel.spaces import moving, netns
from pytest_netns.kernel.system import threads


def adopt_executor() -> None:
    """Adapt `ThreadPoolExecutor`."""
    from concurrent.futures import ThreadPoolExecutor

    submit: Any = ThreadPoolExecutor.submit

    @functools.wraps(submit)
    def submit_here(self: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        work = carrying(function)
        with moving.outside():
            return submit(self, work, *args, **options)

    ThreadPoolExecutor.submit = submit_here  # type: ignore[assignment]


def adopt_trio() -> None:
    """Adapt trio's worker threads."""
    cache: Any = getattr(sys.modules.get("trio._core._thread_cache"), "ThreadCache", None)
    start = getattr(cache, "start_thread_soon", None)
    if start is None:  # another version of trio
        return

    @functools.wraps(start)
    def start_here(self: Any, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        work = carrying(function)
        with moving.outside():
            return start(self, work, *args, **options)

    cache.start_thread_soon = start_here


def adopt_anyio() -> None:
    """Adapt anyio's worker threads."""
    module: Any = sys.modules["anyio._backends._asyncio"]
    worker, backend = getattr(module, "WorkerThread", None), getattr(module, "AsyncIOBackend", None)
    run = getattr(backend, "run_sync_in_worker_thread", None)
    if worker is None or backend is None or run is None:  # another version of anyio
        return
    start = worker.start

    def start_outside(self: Any) -> None:
        with moving.outside():
            start(self)

    @functools.wraps(run)
    def run_here(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return run(carrying(function), *args, **options)

    worker.start = start_outside
    backend.run_sync_in_worker_thread = staticmethod(run_here)


def adopt_twisted() -> None:
    """Adapt Twisted's pools."""
    module: Any = sys.modules["twisted.python.threadpool"]
    pool = module.ThreadPool
    start, call = pool.start, pool.callInThreadWithCallback

    @functools.wraps(start)
    def start_outside(self: Any) -> None:
        with moving.outside():
            start(self)

    @functools.wraps(call)
    def call_here(self: Any, on_result: Any, function: Callable[..., Any], *args: Any, **options: Any) -> None:
        work = carrying(function)
        with moving.outside():
            call(self, on_result, work, *args, **options)

    pool.start = start_outside
    pool.callInThreadWithCallback = call_here


def adopt_uvloop() -> None:
    """Start uvloop's lookup threads outside, now: libuv starts them at the first lookup, for the whole process."""
    uvloop: Any = sys.modules["uvloop"]

    def look_up() -> None:
        with contextlib.suppress(OSError), contextlib.closing(uvloop.new_event_loop()) as loop:
            numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV  # numeric: no query is sent
            loop.run_until_complete(loop.getnameinfo(("127.0.0.1", 0), numeric))

    thread = threading.Thread(target=look_up, name="netns-uvloop", daemon=True)
    with moving.outside():
        threads.start(thread, "start uvloop's threads")
    thread.join()


def carrying(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that it runs in the calling thread's current namespace, on any thread."""
    inode = moving.current_inode()
    namespace = netns.find(inode)

    @functools.wraps(function)
    def carried(*args: Any, **options: Any) -> Any:
        if moving.current_inode() == inode:
            return function(*args, **options)
        with netns.home() if namespace is None else namespace.entered():
            return function(*args, **options)

    return carried

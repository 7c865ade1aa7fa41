"""Pools of threads live longer than the block or the test that first uses them, so their work carries its own namespace.

What is handed to a `ThreadPoolExecutor` (asyncio's default executor and asgiref's are some) or to trio's worker threads runs
in the network namespace of the thread that hands it over, whichever worker takes it. The workers themselves are started
outside of every namespace, and keep none alive.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from pytest_netns.kernel.spaces import moving, netns


def adopt() -> None:
    """From now on pools respect namespaces; does nothing for those that nobody has imported yet."""
    for module in tuple(_to_adopt):
        if module in sys.modules and (adopt_pool := _to_adopt.pop(module, None)) is not None:
            adopt_pool()


def _adopt_executor() -> None:
    from concurrent.futures import ThreadPoolExecutor

    submit: Any = ThreadPoolExecutor.submit

    @functools.wraps(submit)
    def submit_here(self: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        work = carrying(function)
        with moving.outside():
            return submit(self, work, *args, **options)

    ThreadPoolExecutor.submit = submit_here  # type: ignore[assignment]


def _adopt_trio() -> None:
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


def carrying(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that runs where the calling thread is now, whatever thread it is run on."""
    if not netns.are_open():
        return function
    inode = moving.current_inode()
    namespace = netns.find(inode)

    @functools.wraps(function)
    def carried(*args: Any, **options: Any) -> Any:
        if moving.current_inode() == inode:
            return function(*args, **options)
        with netns.home() if namespace is None else namespace.entered():
            return function(*args, **options)

    return carried


_to_adopt = {
    "concurrent.futures.thread": _adopt_executor,
    "trio": _adopt_trio,
}  # by module, what nobody has imported yet

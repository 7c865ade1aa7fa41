"""Signals must not fall between entering a namespace and being able to leave it.

Python runs signal handlers between any two instructions, so KeyboardInterrupt can be raised on the first line of an
``__exit__`` that would have restored the thread. Functions marked here are never interrupted by a guarded signal: one
that falls into them is raised again a moment later.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import functools
import signal
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

_AGAIN_AFTER = 0.001  # seconds
_uninterrupted: set[CodeType] = set()

F = TypeVar("F", bound=Callable[..., Any])
Handler = Callable[[int, FrameType | None], Any]


def uninterrupted(function: F) -> F:
    """Mark a function (decorator): guarded signals are put off until it, and all it calls, has returned."""
    _uninterrupted.add(function.__code__)
    return function


def guard(number: int, handler: Handler) -> None:
    """Have a handler heed the marks; does nothing outside of the main thread, where handlers cannot be set."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, functools.partial(_handle, handler))


def handler_of(number: int) -> Any:
    """As `signal.getsignal`, which takes twenty times as long to look up an enum member: this is asked before each test."""
    return _signal.getsignal(number)


def guarded(number: int) -> Handler | None:
    """The handler given to `guard` for this signal, if it is still in force."""
    current = handler_of(number)
    if isinstance(current, functools.partial) and current.func is _handle:
        handler: Handler = current.args[0]
        return handler
    return None


def _handle(handler: Handler, number: int, frame: FrameType | None) -> Any:
    inner = frame
    while inner is not None:
        if inner.f_code in _uninterrupted:
            # To the main thread itself: if it waits in a system call by then, that must end.
            again = threading.Timer(_AGAIN_AFTER, signal.pthread_kill, (threading.main_thread().ident, number))
            again.daemon = True
            again.start()
            return None
        inner = inner.f_back
    return handler(number, frame)

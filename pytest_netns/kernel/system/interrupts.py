"""Signals must not fall between entering a namespace and being able to leave it.

Python runs signal handlers between any two instructions, so an exception that a handler raises, such as KeyboardInterrupt or
a timeout, can come on the first line of an ``__exit__`` that would have restored the thread. Functions marked here are never
interrupted by a guarded signal: one that falls into them is raised again a moment later.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import signal
import threading
from _thread import get_ident, interrupt_main
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

_AGAIN_AFTER = 0.001  # seconds
_RAISING = tuple(map(int, (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGUSR1, signal.SIGUSR2)))
_WAKE = signal.SIGRTMIN + 7  # has a handler that does nothing: it ends system calls, and cannot end the process
_uninterrupted: set[CodeType] = set()
_guarded: set[int] = set()

F = TypeVar("F", bound=Callable[..., Any])
Handler = Callable[[int, FrameType | None], Any]


class _Guard:
    """A signal handler that waits until no marked function runs.

    Attributes:
        handler: what it calls.
        former: the handler of the signal without the guard.
    """

    __slots__ = ("former", "handler")

    def __init__(self, handler: Handler, former: Any) -> None:
        self.handler = handler
        self.former = former

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        __tracebackhide__ = True  # pytest shows the last line that is not hidden: that of the test
        inner = frame
        while inner is not None:
            if inner.f_code in _uninterrupted:
                self._put_off(number)
                return None
            inner = inner.f_back
        return self.handler(number, frame)

    def _put_off(self, number: int) -> None:
        """Have the main thread get a signal again in a moment."""
        if number == signal.SIGALRM:
            remaining, interval = signal.getitimer(signal.ITIMER_REAL)
            if interval or not remaining:  # by the timer itself: whoever stops it is not interrupted any more
                signal.setitimer(signal.ITIMER_REAL, _AGAIN_AFTER, interval)
                return
        signal.signal(_WAKE, _nothing)
        again = threading.Timer(_AGAIN_AFTER, self._again, (number,))
        again.daemon = True
        again.start()

    def _again(self, number: int) -> None:
        """Let the main thread have a signal that was put off, which may have another handler by now, or none."""
        main = threading.main_thread().ident or 0
        if _signal.getsignal(number) is self:
            # No real signal: in the meantime its action may have become to end the process.
            interrupt_main(signal.Signals(number))
            signal.pthread_kill(main, _WAKE)  # a system call that the main thread waits in must end
        elif number not in _RAISING:  # a time limit that has been lifted is over; what ends pytest must not be lost
            signal.pthread_kill(main, number)


def _nothing(number: int, frame: FrameType | None) -> None:
    """The handler of a signal that only wakes."""


def uninterrupted(function: F) -> F:
    """Mark a function (decorator): guarded signals are put off until it, and all it calls, has returned."""
    _uninterrupted.add(function.__code__)
    return function


def guard(number: int, handler: Handler, former: Any) -> None:
    """Have a handler wait for marked functions; does nothing outside of the main thread, where handlers cannot be set.

    Args:
        number: the signal.
        handler: what is to be called.
        former: the handler to put back by `unguard`, and in forked children.
    """
    if get_ident() == threading.main_thread().ident:
        signal.signal(number, _Guard(handler, former))
        _guarded.add(number)


def guard_raising() -> None:
    """Guard the signals that raise timeouts and the like, where Python handles them: whoever has set the handler."""
    for number in _RAISING:
        handler = _signal.getsignal(number)
        if callable(handler) and handler.__class__ is not _Guard:
            guard(number, handler, handler)


def handler_of(number: int) -> Any:
    """As `signal.getsignal`, which takes twenty times as long to look up an enum member: this is asked before each test."""
    return _signal.getsignal(number)


def is_guarded(number: int) -> bool:
    """Whether the handler of a signal is a guard of ours."""
    return isinstance(_signal.getsignal(number), _Guard)


def unguard() -> None:
    """Give every guarded signal the handler it had before."""
    for number in _guarded:
        current = _signal.getsignal(number)
        if isinstance(current, _Guard):  # somebody may have set another one since
            signal.signal(number, current.former)
    _guarded.clear()


os.register_at_fork(after_in_child=unguard)  # what ends pytest in order must not run in a copy of it

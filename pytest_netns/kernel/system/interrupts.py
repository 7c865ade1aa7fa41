"""Keep signals from interrupting the code that enters and leaves namespaces.

Python runs signal handlers between any two instructions, so an exception that a handler raises, such as KeyboardInterrupt or
a timeout, can come on the first line of an ``__exit__`` that would have restored the thread. Functions marked here are never
interrupted by a guarded signal: one that arrives in them is raised again shortly after.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]
import signal
import threading
from _thread import get_ident, interrupt_main
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

from pytest_netns.kernel.system import forking

_RETRY_DELAY = 0.001  # seconds
# Other systems, on which suites import Lab too, lack some of these signals.
_NAMES = ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGUSR1", "SIGUSR2")
_RAISING = tuple(int(getattr(signal, name)) for name in _NAMES if hasattr(signal, name))
_WAKE = (
    getattr(signal, "SIGRTMIN", 0) + 7
)  # its handler does nothing: it interrupts system calls without ending the process
_uninterrupted: set[CodeType] = set()
_guarded: set[int] = set()

_getsignal: Callable[[int], Any] = _signal.getsignal  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

F = TypeVar("F", bound=Callable[..., Any])
Handler = Callable[[int, FrameType | None], Any]


class _Guard:
    """A signal handler that waits until no marked function runs.

    Attributes:
        handler: the handler it calls.
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
                self._postpone(number)
                return None
            inner = inner.f_back
        return self.handler(number, frame)

    def _postpone(self, number: int) -> None:
        """Send a signal to the main thread again shortly after."""
        if number == signal.SIGALRM:
            remaining, interval = signal.getitimer(signal.ITIMER_REAL)
            if interval or not remaining:  # by the timer itself: once it is stopped, nothing is interrupted any more
                signal.setitimer(signal.ITIMER_REAL, _RETRY_DELAY, interval)
                return
        signal.signal(_WAKE, _do_nothing)
        timer = threading.Timer(_RETRY_DELAY, self._resend, (number,))
        timer.daemon = True
        timer.start()

    def _resend(self, number: int) -> None:
        """Send a postponed signal to the main thread; it may have another handler by now, or none."""
        main = threading.main_thread().ident or 0
        if _getsignal(number) is self:
            # Not a real signal: by now its default action may be to end the process.
            interrupt_main(signal.Signals(number))
            signal.pthread_kill(main, _WAKE)  # interrupt a system call the main thread waits in
        elif number not in _RAISING:  # a cancelled timeout is dropped; signals that end pytest must not be lost
            signal.pthread_kill(main, number)


# The types of "default" and "ignore", of a handler that is not Python's, and of a guarded one.
_NOT_TO_GUARD = (int, type(None), _Guard)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """The handler of the wake-up signal."""


def uninterrupted(function: F) -> F:
    """Mark a function (decorator): guarded signals are postponed until it, and all it calls, has returned."""
    _uninterrupted.add(function.__code__)
    return function


def guard(number: int, handler: Handler, former: Any) -> None:
    """Make a handler wait for marked functions; does nothing outside of the main thread, where handlers cannot be set.

    Args:
        number: the signal.
        handler: the handler to call.
        former: the handler that `unguard` restores, also in forked children.
    """
    if get_ident() == threading.main_thread().ident:
        signal.signal(number, _Guard(handler, former))
        _guarded.add(number)


def guard_raising() -> None:
    """Guard the signals whose Python handlers raise, such as timeouts, whoever installed them."""
    for number in _RAISING:
        handler = _getsignal(number)
        if not isinstance(handler, _NOT_TO_GUARD):
            guard(number, handler, handler)


def handler_of(number: int) -> Any:
    """Like `signal.getsignal`, but twenty times faster as it looks up no enum member: called before each test."""
    return _getsignal(number)


def is_guarded(number: int) -> bool:
    """Whether the handler of a signal is one of our guards."""
    return isinstance(_getsignal(number), _Guard)


def unguard() -> None:
    """Restore the previous handler of every guarded signal."""
    for number in _guarded:
        current = _getsignal(number)
        if isinstance(current, _Guard):  # another handler may have been installed since
            signal.signal(number, current.former)
    _guarded.clear()


forking.in_child(unguard)  # pytest's own termination must not run in a forked copy

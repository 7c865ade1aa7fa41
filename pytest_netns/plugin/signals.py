"""The signals by which users and CI end pytest: they wait for uninterruptible code, and let finalizers run."""

from __future__ import annotations

import signal
from types import FrameType

from pytest_netns.kernel.system import interrupts


def guard() -> None:
    """Guard SIGINT against interrupting critical code; have SIGTERM and SIGHUP run finalizers too.

    Handlers set by others are kept.
    """
    handler = interrupts.handler_of(signal.SIGINT)
    if callable(handler) and not interrupts.is_guarded(signal.SIGINT):
        interrupts.guard(signal.SIGINT, handler, handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if interrupts.handler_of(number) == signal.SIG_DFL:
            interrupts.guard(number, _terminate, signal.SIG_DFL)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: pytest ends as after Ctrl-C, finalizers included."""


def _terminate(number: int, frame: FrameType | None) -> None:
    __tracebackhide__ = True
    raise Terminated(signal.Signals(number).name)

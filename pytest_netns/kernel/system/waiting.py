"""Waiting for what will be true: asked again and again, with growing pauses, until the time is over."""

from __future__ import annotations

import threading
import time

_GROWTH = 1.5


def now() -> float:
    """Seconds on the monotonic clock: asked of the kernel, so that a test that freezes Python's clocks does not stop it."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def sleep(seconds: float) -> None:
    """Wait; to be used between two questions only."""
    threading.Event().wait(seconds)


class Patience:
    """The time somebody has, and the pauses between two questions.

    Args:
        seconds: how long.
        first, last: the pauses in seconds, from the first on growing up to the last.
    """

    def __init__(self, seconds: float, first: float = 0.001, last: float = 0.05) -> None:
        self._end = now() + seconds
        self._next, self._last = first, last

    def remaining(self) -> float:
        """Seconds that are left; never negative."""
        return max(self._end - now(), 0)

    def is_over(self) -> bool:
        """Whether the time is over."""
        return now() >= self._end

    def next_pause(self) -> float:
        """How long to pause now."""
        pause, self._next = self._next, min(self._next * _GROWTH, self._last)
        return min(pause, self.remaining())

    def pause(self) -> None:
        """Wait before the next question."""
        sleep(self.next_pause())

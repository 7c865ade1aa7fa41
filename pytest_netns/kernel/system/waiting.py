"""Polling until a deadline, with growing pauses."""

from __future__ import annotations

import threading
import time

_GROWTH = 1.5


def now() -> float:
    """Seconds on the monotonic clock: read from the kernel, so that a test that freezes Python's clocks does not stop it."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def sleep(seconds: float) -> None:
    """Wait; only for the pause between two polls."""
    threading.Event().wait(seconds)


class Deadline:
    """A deadline, and the pauses between two polls.

    Args:
        seconds: until the deadline.
        first, last: the first pause, and the longest one, in seconds.
    """

    def __init__(self, seconds: float, first: float = 0.001, last: float = 0.05) -> None:
        self._end = now() + seconds
        self._next, self._last = first, last

    def remaining(self) -> float:
        """The seconds left; never negative."""
        return max(self._end - now(), 0)

    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return now() >= self._end

    def next_pause(self) -> float:
        """The length of the next pause, in seconds."""
        pause, self._next = self._next, min(self._next * _GROWTH, self._last)
        return min(pause, self.remaining())

    def pause(self) -> None:
        """Wait before the next poll."""
        sleep(self.next_pause())


class Endtime(float):
    """The end of a timeout for `subprocess.Popen`, by the kernel's clock: the time it is compared with, which a test may have frozen, is ignored.

    Attributes:
        deadline: set before use.
    """

    deadline: Deadline

    def __sub__(self, now: float) -> float:
        return self.deadline.remaining()

    def __lt__(self, now: float) -> bool:  # also called for `now > endtime`: this is a subclass of float
        return self.deadline.is_over()

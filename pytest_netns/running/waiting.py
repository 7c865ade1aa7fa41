"""Waiting for what will be true: a condition of the test's own, asked again and again until its time is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pytest_netns.errors import CommandError, CommandTimeout, NotReadyError

if TYPE_CHECKING:
    from pytest_netns.running.records import Records

_FIRST_PAUSE, _LAST_PAUSE = 0.001, 0.05  # seconds between two questions

T = TypeVar("T")


def until(records: Records, condition: Callable[[], T], timeout: float) -> T:
    """What a condition gives once that is true; see `Lab.wait_until`."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    delay = _FIRST_PAUSE
    while True:
        failure: CommandError | CommandTimeout | None = None
        try:
            found = condition()
            if found:
                return found
            last = f"it gave {found!r}"
        except (CommandError, CommandTimeout) as error:
            failure, last = error, str(error)
        if time.monotonic() >= deadline:
            raise NotReadyError(f"cannot go on: the condition is not true after {timeout:g} s: {last}") from failure
        if failure is not None:
            records.withdraw_failure(failure)
        pause.wait(delay)
        delay = min(delay * 1.5, _LAST_PAUSE)

"""What a lab's failure report tells of its programs."""

from __future__ import annotations

import collections
import contextlib
import subprocess

_KEPT = 20


class Records:
    """The commands of a lab that failed, the last ones.

    Attributes:
        failures: oldest first.
    """

    def __init__(self) -> None:
        self.failures: collections.deque[subprocess.SubprocessError] = collections.deque(maxlen=_KEPT)

    def add_failure(self, error: subprocess.SubprocessError) -> None:
        """Keep a failed command for the report."""
        self.failures.append(error)

    def withdraw_failure(self, error: subprocess.SubprocessError) -> None:
        """The command was only a question asked again and again: the report tells of what failed in the end."""
        with contextlib.suppress(ValueError):
            self.failures.remove(error)

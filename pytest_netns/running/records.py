"""What a lab's failure report tells of its programs."""

from __future__ import annotations

import collections
import contextlib
import subprocess
from typing import Any, NamedTuple

from pytest_netns.errors import show_argv
from pytest_netns.running.output import OUTPUT_LIMIT

_KEPT = 20


class KeptOutput(NamedTuple):
    """What a command wrote."""

    namespace: str
    command: str
    text: str


class Records:
    """The commands of a lab that failed, and those whose output is to be shown; the last ones.

    Attributes:
        failures: oldest first.
        outputs: oldest first.
    """

    def __init__(self) -> None:
        self.failures: collections.deque[subprocess.SubprocessError] = collections.deque(maxlen=_KEPT)
        self.outputs: collections.deque[KeptOutput] = collections.deque(maxlen=_KEPT)

    def add_output(self, namespace: str, command: Any, *streams: str | bytes | None) -> None:
        """Keep what a command wrote for the report."""
        texts = (text.decode(errors="backslashreplace") if isinstance(text, bytes) else text for text in streams)
        self.outputs.append(KeptOutput(namespace, show_argv(command), "".join(filter(None, texts))[-OUTPUT_LIMIT:]))

    def add_failure(self, error: subprocess.SubprocessError) -> None:
        """Keep a failed command for the report."""
        self.failures.append(error)

    def withdraw_failure(self, error: subprocess.SubprocessError) -> None:
        """The command was only a question asked again and again: the report tells of what failed in the end."""
        with contextlib.suppress(ValueError):
            self.failures.remove(error)

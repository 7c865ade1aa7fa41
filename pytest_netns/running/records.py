"""Outputs and failures of a lab's programs, for the failure report."""

from __future__ import annotations

import collections
import contextlib
import subprocess
from typing import Any, NamedTuple

from pytest_netns.errors import show_argv
from pytest_netns.running.output import OUTPUT_LIMIT

_KEPT = 20


class KeptOutput(NamedTuple):
    """The output of a command."""

    namespace: str
    command: str
    text: str


class Records:
    """The most recent failed commands of a lab, and outputs to be shown.

    Attributes:
        failures: oldest first.
        outputs: oldest first.
    """

    def __init__(self) -> None:
        self.failures: collections.deque[subprocess.SubprocessError] = collections.deque(maxlen=_KEPT)
        self.outputs: collections.deque[KeptOutput] = collections.deque(maxlen=_KEPT)

    def add_output(self, namespace: str, command: Any, *streams: str | bytes | None) -> None:
        """Keep a command's output for the report."""
        texts = (text.decode(errors="backslashreplace") if isinstance(text, bytes) else text for text in streams)
        self.outputs.append(KeptOutput(namespace, show_argv(command), "".join(filter(None, texts))[-OUTPUT_LIMIT:]))

    def add_failure(self, error: subprocess.SubprocessError) -> None:
        """Keep a failed command for the report."""
        self.failures.append(error)

    def withdraw_failure(self, error: subprocess.SubprocessError) -> None:
        """Remove a failure of a command that is polled: only its final failure is reported."""
        with contextlib.suppress(ValueError):
            self.failures.remove(error)

"""The type of fixtures that run a test file in an inner pytest."""

from __future__ import annotations

from typing import Protocol

import pytest


class RunFile(Protocol):
    """Runs the text of a test file, with pytest's command-line arguments."""

    def __call__(self, text: str, /, *arguments: str) -> pytest.RunResult: ...


class CheckFile(Protocol):
    """The same, and fails unless the given numbers of tests have passed, failed and so on: ``passed=5``."""

    def __call__(self, text: str, /, *arguments: str, **outcomes: int) -> pytest.RunResult: ...

"""What a fixture gives that runs a test file in a pytest of its own."""

from __future__ import annotations

from typing import Protocol

import pytest


class RunFile(Protocol):
    """Runs the text of a test file, with arguments of pytest's command line."""

    def __call__(self, text: str, /, *arguments: str) -> pytest.RunResult: ...


class CheckFile(Protocol):
    """The same, and fails unless so many tests have passed, failed and so on: ``passed=5``."""

    def __call__(self, text: str, /, *arguments: str, **outcomes: int) -> pytest.RunResult: ...

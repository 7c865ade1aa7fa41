"""What pytest shows of a failed test: the test's own lines, not those of the plugin that it called."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pytest_netns.errors import NetnsError

_PACKAGE = __name__.partition(".")[0]


def hide_own_frames() -> None:
    """From now on pytest leaves the plugin's frames out of tracebacks; ``--full-trace`` shows them."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == _PACKAGE:
            vars(module).setdefault("__tracebackhide__", _says_what_failed)


def _says_what_failed(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """Whether the error is one that the caller can understand: not a fault of the plugin itself."""
    if isinstance(excinfo.value, NetnsError):
        return True
    last: Any = excinfo.tb
    while last.tb_next is not None:
        last = last.tb_next
    return str(last.tb_frame.f_globals.get("__name__", "")).partition(".")[0] != _PACKAGE

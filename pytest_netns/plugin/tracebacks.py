"""What pytest shows of a failed test: the test's own lines, not those of the plugin that it called."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pytest_netns.errors import NetnsError

_PACKAGE = __name__.partition(".")[0]
_PYTEST = ("_pytest", "pluggy")


def hide_own_frames() -> None:
    """From now on pytest leaves the plugin's frames out of tracebacks; ``--full-trace`` shows them."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == _PACKAGE:
            vars(module).setdefault("__tracebackhide__", _says_what_failed)


def end_at_caller(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Have a traceback end where the plugin was called: where in it, or in what it calls, Ctrl-C came tells nobody anything."""
    entries = excinfo.traceback
    roots = [_root(entry.frame) for entry in entries]
    # What pytest calls last is the test, or a fixture or hook, which may be the plugin's own.
    first = max((number + 1 for number, root in enumerate(roots) if root in _PYTEST), default=0)
    if _PACKAGE in roots[first + 1 :]:
        excinfo.traceback = type(entries)(entries[: roots.index(_PACKAGE, first + 1)])


def _says_what_failed(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """Whether the error is one that the caller can understand: not a fault of the plugin itself."""
    if isinstance(excinfo.value, NetnsError):
        return True
    last: Any = excinfo.tb
    while last.tb_next is not None:
        last = last.tb_next
    return _root(last.tb_frame) != _PACKAGE


def _root(frame: Any) -> str:
    """The package that a frame's code is of."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]

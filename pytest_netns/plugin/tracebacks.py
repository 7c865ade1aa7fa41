"""Hide the plugin's frames in tracebacks, so that they end at the test's own lines."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pytest_netns.errors import NetnsError

_PACKAGE = __name__.partition(".")[0]
_PYTEST = ("_pytest", "pluggy")


def hide_own_frames() -> None:
    """Make pytest omit the plugin's frames from tracebacks; ``--full-trace`` shows them."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == _PACKAGE:
            vars(module).setdefault("__tracebackhide__", _is_users_error)


def end_at_caller(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """End a traceback at the call of the plugin: the place inside it that Ctrl-C interrupted is of no use."""
    entries = excinfo.traceback
    roots = [_root(entry.frame) for entry in entries]
    # The last function pytest calls is the test, or a fixture or hook, which may be the plugin's.
    first = max((number + 1 for number, root in enumerate(roots) if root in _PYTEST), default=0)
    if _PACKAGE in roots[first + 1 :]:
        excinfo.traceback = type(entries)(entries[: roots.index(_PACKAGE, first + 1)])


def _is_users_error(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """Whether the error is meant for the caller, not a bug of the plugin itself."""
    if isinstance(excinfo.value, NetnsError):
        return True
    last: Any = excinfo.tb
    while last.tb_next is not None:
        last = last.tb_next
    return _root(last.tb_frame) != _PACKAGE


def _root(frame: Any) -> str:
    """The package of a frame's code."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]

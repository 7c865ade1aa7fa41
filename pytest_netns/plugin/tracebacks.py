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


def end_at_caller(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Have a traceback end where the plugin was called: where in it, or in what it calls, Ctrl-C came tells nobody anything."""
    entries = excinfo.traceback
    rooms = [str(entry.frame.f_globals.get("__name__", "")).split(".")[:2] for entry in entries]
    hooks = max((number for number, room in enumerate(rooms) if room == [_PACKAGE, "plugin"]), default=-1)
    for number, room in enumerate(rooms):
        if number > hooks and room[0] == _PACKAGE:
            excinfo.traceback = type(entries)(entries[:number])
            return


def _says_what_failed(excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
    """Whether the error is one that the caller can understand: not a fault of the plugin itself."""
    if isinstance(excinfo.value, NetnsError):
        return True
    last: Any = excinfo.tb
    while last.tb_next is not None:
        last = last.tb_next
    return str(last.tb_frame.f_globals.get("__name__", "")).partition(".")[0] != _PACKAGE

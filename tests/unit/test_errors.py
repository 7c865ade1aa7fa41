"""The texts and data of errors."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess

import pytest

import pytest_netns
from pytest_netns.errors import (
    CallTimeout,
    CommandError,
    CommandTimeout,
    InvalidTopologyError,
    KernelError,
    LabClosedError,
    NetnsError,
    NotReadyError,
    RulesetError,
    UnavailableError,
    show_output,
)


def test_kernel_error() -> None:
    """Action, place, the kernel's message, number, remedy; an OSError with an errno."""
    error = KernelError("add x", errno.ENOSPC, namespace="red", kernel_message="too many", remedy="fewer")
    assert str(error) == "cannot add x in namespace 'red': too many (No space left on device, ENOSPC)\n  remedy: fewer"
    assert str(KernelError("add x", errno.ENOSPC)) == "cannot add x: No space left on device (ENOSPC)"
    assert isinstance(error, OSError)
    assert isinstance(error, NetnsError)
    assert error.errno == errno.ENOSPC


def test_command_errors() -> None:
    """The command as typed, the status or signal, both outputs; also subprocess's own error classes."""
    error = CommandError(2, ["a b", "c"], b"out\n", "", namespace="red")
    assert str(error) == "cannot complete command in namespace 'red': 'a b' c: exit status 2\n  stdout:\n    out"
    assert isinstance(error, subprocess.CalledProcessError)
    assert "signal 9 (SIGKILL)" in str(CommandError(-9, "x", None, None, namespace="red"))
    late = CommandTimeout(["sleep", "9"], 0.5, None, "err", namespace="red")
    assert str(late) == ("cannot complete command in namespace 'red' within 0.5 s: sleep 9: killed\n  stderr:\n    err")
    assert isinstance(late, subprocess.TimeoutExpired)


def test_long_output_keeps_both_ends() -> None:
    """The first and the last lines are shown, with the number of omitted ones; long lines are shortened too."""
    shown = show_output("\n".join(map(str, range(100))), "")
    assert shown.startswith("\n  stdout (first 5 and last 20 of 100 lines):\n    0\n")
    assert "\n    4\n    ...\n    80\n" in shown
    assert shown.endswith("\n    99")
    for text in ("x" * 50_000_000 + "end", b"first\n" + b"y\n" * 5_000_000 + b"end"):
        long = show_output(text, None)
        assert len(long) < 10_000
        assert long.endswith("end")
    assert "lines):\n    first\n    y\n" in long
    assert "of 5000002 lines" in long


ERRORS = [
    KernelError("add x", errno.EPERM, namespace="red", kernel_message="no", remedy="yes"),
    CommandError(1, ["x"], "out", "err", namespace="red"),
    CommandTimeout(["x"], 0.5, "out", "err", namespace="red"),
    InvalidTopologyError("m", problems=["a", "b"]),
    UnavailableError("feature", "cause", "remedy"),
    NotReadyError("m", output="o"),
    CallTimeout("f", 1.0, "stack", namespace="red"),
    RulesetError("rule", "message", namespace="red"),
    LabClosedError("red"),
    NetnsError("m"),
]


def test_all_errors_are_pickled_here() -> None:
    """A new error is added to the list."""
    public = (getattr(pytest_netns, name) for name in pytest_netns.__all__)
    errors = {each for each in public if isinstance(each, type) and issubclass(each, NetnsError)}
    assert {type(each) for each in ERRORS} == errors


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_pickle(error: NetnsError) -> None:
    """An error comes out of a process pool unchanged: text, data and notes."""
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), vars(again), again.args) == (str(error), vars(error), error.args)
    assert getattr(again, "errno", None) == getattr(error, "errno", None)


def test_text_can_be_written_anywhere() -> None:
    """A byte of a file's name that is not UTF-8 is an escape in the text, and unchanged in the data."""
    name = os.fsdecode(b"no\xff-such")
    error = CommandError(1, ["cat", name], "", f"cat: {name}: no such file \ud800\n", namespace="red")
    assert error.cmd == ["cat", name]
    assert r"cat 'no\xff-such'" in str(error)
    assert r"\ud800" in str(error)
    str(error).encode()


def test_ruleset_error() -> None:
    """It has both nft's message and the refused text."""
    error = RulesetError("add rul x", "Error: syntax error\nadd rul x\n    ^^^\n", namespace="host")
    assert str(error).startswith(
        "cannot apply nft ruleset in namespace 'host': Error: syntax error\nadd rul x\n    ^^^"
    )
    assert str(error).endswith("ruleset was:\n    add rul x")

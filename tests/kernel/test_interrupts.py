"""A signal at a bad moment is postponed a little, and then has its usual effect, no more."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGINNING = """
import os, select, signal, threading
from pytest_netns.kernel.system import interrupts

class Late(BaseException):
    pass

def late(*_):
    raise Late

def wait_for_what_was_put_off():
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join()

@interrupts.uninterrupted
def at_a_bad_moment(number):
    signal.raise_signal(number)
"""

COMES_LATER = """
signal.signal(signal.SIGALRM, late)
interrupts.guard_raising()
at_a_bad_moment(signal.SIGALRM)
waiting, other = os.pipe()
try:
    select.select([waiting], [], [], 60)
except Late:
    print("interrupted")
"""

LIMIT_IS_LIFTED = """
number = getattr(signal, {name!r})
signal.signal(number, late)
interrupts.guard_raising()
at_a_bad_moment(number)
signal.setitimer(signal.ITIMER_REAL, 0)
if {has_default}:
    signal.signal(number, signal.SIG_DFL)
wait_for_what_was_put_off()
select.select([], [], [], 0.05)  # 50 times as long as it was put off
print("alive")
"""

ENDING_IS_NOT_LOST = """
interrupts.guard(signal.SIGTERM, late, signal.SIG_DFL)
at_a_bad_moment(signal.SIGTERM)
interrupts.unguard()
wait_for_what_was_put_off()
select.select([], [], [], 60)
"""


def _run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BEGINNING + script], capture_output=True, text=True, timeout=50)


@pytest.mark.parametrize("name", ["SIGALRM", "SIGUSR1"])
def test_it_comes_later(name: str) -> None:
    """An exception of its handler ends a system call in which the main thread then waits."""
    done = _run(COMES_LATER.replace("SIGALRM", name))
    assert done.stdout == "interrupted\n", done.stderr


@pytest.mark.parametrize(("name", "has_default"), [("SIGALRM", False), ("SIGALRM", True), ("SIGUSR1", True)])
def test_a_time_limit_that_was_lifted_meanwhile_is_over(name: str, has_default: bool) -> None:
    """After the timer is stopped, or its signal has the default action, which would end the process, nothing is interrupted."""
    done = _run(LIMIT_IS_LIFTED.format(name=name, has_default=has_default))
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_what_ends_pytest_is_not_lost() -> None:
    """SIGTERM that was postponed until the guard was gone has its usual effect."""
    assert _run(ENDING_IS_NOT_LOST).returncode == -15

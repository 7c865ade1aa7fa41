"""A signal that comes at a bad moment is put off a little, and does what it would do then, no more."""

from __future__ import annotations

import subprocess
import sys

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
signal.signal(signal.SIGALRM, late)
interrupts.guard_raising()
at_a_bad_moment(signal.SIGALRM)
signal.signal(signal.SIGALRM, signal.SIG_DFL)
wait_for_what_was_put_off()
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


def test_it_comes_later() -> None:
    """What its handler raises ends a system call that the main thread waits in by then."""
    done = _run(COMES_LATER)
    assert done.stdout == "interrupted\n", done.stderr


def test_a_time_limit_that_was_lifted_meanwhile_is_over() -> None:
    """Whoever sets a timer's signal back to its default, to end the process, is not ended by one that was put off."""
    done = _run(LIMIT_IS_LIFTED)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_what_ends_pytest_is_not_lost() -> None:
    """SIGTERM that was put off until the guard had gone does what it does without one."""
    assert _run(ENDING_IS_NOT_LOST).returncode == -15

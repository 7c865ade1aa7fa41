"""Whose signal handlers are in force during a run of pytest, and after it."""

from __future__ import annotations

import pytest
from environments import NO_CACHE

SUITE = """
import signal

DEFAULT = signal.SIG_DFL, signal.SIG_DFL

def handlers():
    return signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)

def test_before():
    assert handlers() == DEFAULT

def test_with_netns(netns):
    assert not set(handlers()) & set(DEFAULT)

def test_after():
    assert not set(handlers()) & set(DEFAULT)
"""
THEIRS = """
import signal

def mine(number, frame): pass
signal.signal(signal.SIGTERM, mine)

def test_with_netns(netns):
    assert signal.getsignal(signal.SIGTERM) is mine
    assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL
"""
AFTERWARDS = """
import signal, sys
import pytest

class Last:
    def pytest_unconfigure(self):
        names = [getattr(signal.getsignal(number), "__name__", "default") for number in (signal.SIGTERM, signal.SIGHUP)]
        sys.stdout.write(f"AFTERWARDS {' '.join(names)}\\n")

@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config):
    config.add_cleanup(Last().pytest_unconfigure)
"""


def test_only_from_the_first_test_that_uses_netns(pytester: pytest.Pytester) -> None:
    """SIGTERM and SIGHUP are left to the system's default until a test uses netns, and given back in the end."""
    pytester.makeconftest(AFTERWARDS)
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess(NO_CACHE, "-s")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["AFTERWARDS default default"])


def test_not_where_somebody_else_has_set_a_handler(pytester: pytest.Pytester) -> None:
    """A handler that was there before stays, during the tests and after them."""
    pytester.makeconftest(AFTERWARDS)
    pytester.makepyfile(THEIRS)
    result = pytester.runpytest_subprocess(NO_CACHE, "-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["AFTERWARDS mine default"])

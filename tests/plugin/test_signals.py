"""The signal handlers in force during a run of pytest, and after it."""

from __future__ import annotations

import pytest

from tests.support.environments import NO_CACHE

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


@pytest.mark.parametrize(
    ("suite", "passed", "afterwards"),
    [(SUITE, 3, "default default"), (THEIRS, 1, "mine default")],
    ids=["none", "theirs"],
)
def test_handlers(pytester: pytest.Pytester, suite: str, passed: int, afterwards: str) -> None:
    """SIGTERM and SIGHUP get a handler from the first test that uses netns, and only if there was none before."""
    pytester.makeconftest(AFTERWARDS)
    pytester.makepyfile(suite)
    result = pytester.runpytest_subprocess(NO_CACHE, "-s")
    result.assert_outcomes(passed=passed)
    result.stdout.fnmatch_lines([f"AFTERWARDS {afterwards}"])

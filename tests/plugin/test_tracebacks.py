"""The plugin's own code in the output of a failed test: none, unless requested or at fault."""

from __future__ import annotations

import os
import re
import signal
import sys

import pytest

FAILS = """
def test_run(netns_pair):
    netns_pair["red"].run("false")  # the test's own line

def test_refused(netns_pair):
    netns_pair["red"].add_route("10.0.0.0/24", via="10.9.9.9")  # the test's own line

def test_not_found(netns_pair):
    netns_pair["red"].run("no-such-program")  # the test's own line
"""
FAULT = """
def test_fault(netns_pair, monkeypatch):
    from pytest_netns.running import process

    monkeypatch.setattr(process, "spawn", None)
    netns_pair["red"].run("true")
"""


def run(pytester: pytest.Pytester, request: pytest.FixtureRequest, code: str, *arguments: str) -> str:
    """The output of a run of failing tests."""
    mode = request.config.getoption("netns_mode") or "auto"
    pytester.makepyfile(code)
    result = pytester.runpytest_subprocess(f"--netns-mode={mode}", "--netns-unavailable=fail", *arguments)
    result.assert_outcomes(failed=code.count("def test_"))
    return result.stdout.str()


def test_a_failed_call_shows_the_line_of_the_test(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    """A refused or failed call ends at the test's own line, followed by the error; no line of the plugin is shown."""
    shown = run(pytester, request, FAILS)
    assert shown.count(">   ") >= 3
    assert "CommandError: cannot complete command in namespace 'red': false: exit status 1" in shown
    for file in ("namespace.py", "process.py", "view.py", "__init__.py"):
        assert f"/{file}:" not in shown


def test_full_trace_shows_all(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    """With --full-trace the plugin's lines are shown."""
    assert "/process.py:" in run(pytester, request, FAILS, "--full-trace")


def test_a_fault_of_the_plugin_is_shown(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    """An unexpected error shows where in the plugin it was raised."""
    assert "/process.py:" in run(pytester, request, FAULT)


@pytest.mark.parametrize(
    "waits", ["time.sleep(60)", "netns['red'].run('sleep 60')", "netns['red'].call(time.sleep, 60)"]
)
def test_ctrl_c_shows_the_line_of_the_test(
    waits: str, pytester: pytest.Pytester, request: pytest.FixtureRequest
) -> None:
    """After Ctrl-C pytest names the file and line of the interrupted test, not the plugin's or its handler's."""
    pytest.importorskip("pexpect")
    mode = request.config.getoption("netns_mode") or "auto"
    pytester.makepyfile(
        test_it="""
        import time

        def test_waits(netns):
            netns.add_namespace("red")
            # one line, so that it is the line whenever the signal comes
            print("waiting", flush=True), WAITS  # line 6
        """.replace("WAITS", waits)
    )
    child = pytester.spawn(f"{sys.executable} -m pytest -s -p no:cacheprovider --netns-mode={mode}", expect_timeout=30)
    child.expect("waiting")
    assert child.pid
    os.kill(child.pid, signal.SIGINT)
    child.expect(r"(\S+:\d+): KeyboardInterrupt")
    assert isinstance(child.match, re.Match)
    assert child.before is not None
    place, before = child.match.group(1).decode(), child.before.decode()
    rest = child.read().decode()
    assert place.endswith("test_it.py:6"), before + place + rest
    child.wait()

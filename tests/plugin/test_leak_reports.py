"""Reports of leaked namespaces: for their test, as a warning or an error, also with xdist."""

from __future__ import annotations

import socket
import sys

import pytest

from pytest_netns import Lab
from pytest_netns.kernel.spaces import destruction
from pytest_netns.plugin.options import Settings
from pytest_netns.plugin.run import Run

LEAKY = """
import socket
import sys
kept = []

def test_leaks(netns):
    kept.append(netns.add_namespace("red").socket())

def test_clean(netns):
    netns.add_namespace("blue").run("true")
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
@pytest.mark.parametrize("setting", ["command line", "ini file"])
def test_as_error(pytester: pytest.Pytester, workers: tuple[str, ...], setting: str) -> None:
    """netns_leaks = error: an error for the test that leaked, which names the holder, and the run fails."""
    pytester.makepyfile(LEAKY)
    pytester.makeini(f"[pytest]\n{'netns_leaks = error' if setting == 'ini file' else ''}")
    arguments = ["--netns-leaks=error"] if setting == "command line" else []
    result = pytester.runpytest_subprocess("-rE", *arguments, *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of*test_leaks*", "*namespace 'red' is still alive 5 s after*: *socket * of process*"]
    )


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_as_warning(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """By default it is a warning that names test, namespace and holder, and the run passes."""
    pytester.makepyfile(LEAKY)
    result = pytester.runpytest_subprocess(*workers)
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(
        ["*NamespaceLeakWarning: *::test_leaks: namespace 'red' is still alive 5 s after*: *socket * of process*"]
    )


def test_descriptor_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor in flight in a unix socket is reported with that socket, and the namespace only once."""
    monkeypatch.setattr(destruction, "GRACE", 0.1)
    monkeypatch.setattr(destruction, "BUSY_GRACE", 0.2)
    session = Run(Settings("auto", "skip", "warn", "off", pause=False, whole=False, seed=None))
    one, other = socket.socketpair()
    with one, other:
        with Lab("test_sends") as lab:
            socket.send_fds(one, [b"x"], [lab.add_namespace("red")._kernel.fd])
        session.note_leaks(wait=True)
        session.note_leaks(wait=True)
        (message,) = (message for owner, message, _ in session.leaks if owner == "test_sends")
        assert message.startswith("namespace 'red' is still alive")
        assert f"unix socket {other.fileno()} of process " in message


def test_clean_run_does_not_wait(pytester: pytest.Pytester) -> None:
    """Without a leak nothing is reported."""
    pytester.makepyfile(LEAKY.replace("kept.append(netns", "(netns").replace(".socket()", ".socket().close()"))
    result = pytester.runpytest_subprocess("--netns-leaks=error")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*still alive*")


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_what_was_interrupted_is_no_leak(pytester: pytest.Pytester, number: str) -> None:
    """pytest keeps the traceback of an interrupted test, and so its open sockets; it still ends at once."""
    pytester.makepyfile(f"""
import os, signal, socket, time
import pytest

@pytest.mark.netns
def test_interrupted():
    server = socket.create_server(("127.0.0.1", 80))
    os.kill(os.getpid(), signal.{number})
    time.sleep(20)
""")
    result = pytester.runpytest_subprocess("--netns-leaks=error")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.no_fnmatch_line("*still alive*")


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_python_has_nothing_to_warn_of(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """With resource warnings enabled, neither the end of the process nor that of a forked one reports an open socket."""
    pytester.makepyfile("""
import multiprocessing
import pytest

@pytest.mark.netns
def test_marked(netns):
    child = multiprocessing.get_context("fork").Process(target=print)
    child.start()
    child.join()

def test_programs(netns_nat):
    netns_nat["red"].start(["sleep", "60"])
    netns_nat["red"].run("ping -c1 outside")
    netns_nat["red"].call(print)
""")
    options = ["-W", "error::ResourceWarning", "-m", "pytest", "-s", "-p", "no:cacheprovider", *workers]
    result = pytester.run(sys.executable, *options)
    result.assert_outcomes(passed=2)
    assert "unclosed" not in result.stdout.str() + result.stderr.str()


def test_service_that_died(pytester: pytest.Pytester) -> None:
    """A service that dies during a passing test causes a warning."""
    pytester.makepyfile("""
        import os

        def test_one(netns):
            service = netns.add_namespace("red").start(["sleep", "1000"])
            os.kill(service.pid, 9)
            service.wait()
    """)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*ServiceDiedWarning: service 'sleep 1000' in namespace 'red' ended during the test*"])


def test_what_a_failed_test_had_open_is_no_leak(pytester: pytest.Pytester) -> None:
    """pytest keeps the last failure's traceback; the run neither waits for its sockets nor reports them."""
    pytester.makepyfile("""
        def test_fails(netns_pair):
            with netns_pair["blue"].create_server(("", 80)):
                client = netns_pair["red"].create_connection(("blue", 80))
                assert client.getpeername()[1] == 81
    """)
    result = pytester.runpytest_subprocess("--netns-leaks=error")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*still alive*")


def test_cycles_are_no_leak(pytester: pytest.Pytester) -> None:
    """Objects that only Python's garbage keeps, such as the frames of a caught error, are collected before a leak is reported."""
    pytester.makeconftest("""
        import gc, pytest
        from pytest_netns.kernel.spaces import destruction
        gc.disable()
        destruction.GRACE = 0.2
    """)
    pytester.makepyfile("""
        import pytest, time
        from pytest_netns import RulesetError
        from pytest_netns.kernel.spaces import destruction

        def test_cycle(netns):
            cycle = [netns.add_namespace("red").socket()]
            cycle.append(cycle)

        def test_refused(netns):
            with pytest.raises(RulesetError) as caught:
                netns.add_namespace("fw").nft("add table inet policy")
            caught.again = caught

        def test_later(netns):
            hub = destruction.hub()
            netns.wait_until(lambda: hub.overdue(0.3))
    """)
    result = pytester.runpytest_subprocess("--netns-leaks=error")
    result.assert_outcomes(passed=3)
    result.stdout.no_fnmatch_line("*still alive*")


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_native_threads_of_libraries_are_no_error(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """A thread that a library starts permanently cannot be ended by a test: it is reported with the remedy, and is no error."""
    pytester.makepyfile("""
        import ctypes
        import pytest

        @pytest.mark.netns
        def test_first_use():
            libc = ctypes.CDLL(None)
            thread = ctypes.c_ulong()
            assert libc.pthread_create(ctypes.byref(thread), None, libc.pause, None) == 0
    """)
    result = pytester.runpytest_subprocess("--netns-leaks=error", "-W", "error", *workers)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "*netns: kept by libraries*",
            (
                "*::test_first_use: namespace 'host' remains until the end of the process: native thread * of process *; "
                "import and use the library outside of namespaces first, such as in conftest.py"
            ),
        ]
    )

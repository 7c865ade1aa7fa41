"""However pytest ends: a second later none of its processes and namespaces remain, and if possible, finalizers have run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.trial import Trial, below, is_root

FULL = os.environ.get("NETNS_FAULTS") == "full"
VICTIM = """
import ctypes, multiprocessing, os, signal, subprocess, sys, threading, time
import pytest
from tests.faults.announce import tell

DAEMON = '''
import os, signal
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(flush=True)
os.close(1)
signal.pause()
'''
FINALIZED = os.environ["FINALIZED"]
WAY = os.environ["WAY"]

def wait():
    while True:  # Python runs its handler of a signal that comes just before the call only after it
        time.sleep(0.1)

def fork_child():
    multiprocessing.get_context("fork").Process(target=wait, daemon=True).start()

def crash():
    ctypes.string_at(0)

WAYS = {
    "wait": wait,
    "os._exit": lambda: os._exit(3),
    "crash": crash,
    "fork": lambda: (fork_child(), os.kill(os.getpid(), signal.SIGKILL)),
    "kill worker": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "kill controller": lambda: (os.kill(os.getppid(), signal.SIGKILL), wait()),
    "end": lambda: None,
}

@pytest.fixture
def finalized():
    yield
    open(FINALIZED, "w").close()

@pytest.mark.netns("pair")
def test_marked(finalized, netns):
    red = netns["red"]
    red.interfaces["veth-red"].impair(delay="10ms")
    red.popen(["sleep", "1000"], start_new_session=True)
    red.popen(["sleep", "1000"]).send_signal(signal.SIGSTOP)
    for start in (red.popen, subprocess.Popen):  # under an init, and beside all inits in the body's namespace
        daemon = start([sys.executable, "-ISc", DAEMON], stdout=subprocess.PIPE)
        daemon.stdout.read()
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    with netns.nemesis([red.isolate, lambda: netns.cut("red", to="blue")], every=0.001):
        tell("ready").close()
        WAYS[WAY]()

def test_quiet(finalized, netns):  # no program, no supervisor: descriptors only
    netns.add_namespace("red")
    tell("ready").close()
    WAYS[WAY]()

@pytest.fixture
def busy(netns_factory):
    tell("ready").close()
    while True:
        with netns_factory.lab("pair") as lab:
            lab["red"].popen(["sleep", "1000"])
            lab["red"].run("true")

def test_set_up(finalized, busy):
    pass
"""
MODES = ["root", "rootless"]
ALONE, XDIST = (), ("-n", "1")
ALL_SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
TESTS = ["test_marked", "test_quiet"]
# pytest-xdist itself takes 10 s to end a worker after Ctrl-C, and seconds to start one: most such rows are only in `full`.
SIGNALS = [
    (number, test, workers)
    for workers in (ALONE, XDIST)
    for number in ALL_SIGNALS
    for test in TESTS
    if FULL or not workers or number == signal.SIGKILL
]
XDIST_WAYS = [
    (way, test)
    for way in ("kill worker", "kill controller", "fork", "os._exit")
    for test in TESTS
    if FULL or way == "kill controller"
]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    if request.param == "root" and not is_root():
        pytest.skip("needs root: it is what this row is about")
    return str(request.param)


Starter = Callable[..., Trial]


@pytest.fixture
def start(tmp_path: Path, mode: str) -> Starter:
    def start(test: str, way: str, *arguments: str) -> Trial:
        (tmp_path / "test_victim.py").write_text(VICTIM)
        os.chmod(tmp_path, 0o777)
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "netns", "-p", "xdist"]
        argv += [
            "-p",
            "tests.faults.announce",
            f"--netns-mode={mode}",
            f"--basetemp={tmp_path / 'base'}",
            *arguments,
            f"{tmp_path}/test_victim.py::{test}",
        ]
        few = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # importing them takes longer than the victim's test
        return Trial(argv, WAY=way, FINALIZED=str(tmp_path / "finalized"), **few)

    return start


def check_clean(trial: Trial, tmp_path: Path, finalized: bool | None = None) -> None:
    """The victim has ended, and nothing of it remains."""
    left = trial.left_over()
    assert not left, f"{left}\n{trial.text()}"
    if finalized is not None:
        assert (tmp_path / "finalized").exists() is finalized, trial.text()


@pytest.mark.parametrize(("number", "test", "workers"), SIGNALS, ids=str)
def test_signal(start: Starter, tmp_path: Path, number: int, test: str, workers: tuple[str, ...]) -> None:
    """A signal to pytest, or to the xdist controller, during a test; all except SIGKILL run the finalizers."""
    with start(test, "wait", *workers) as trial:
        trial.wait_for("ready").close()
        os.kill(trial.victim, number)
        trial.wait_end()
        # A worker whose controller has died is also asked to end, and runs its finalizers.
        check_clean(trial, tmp_path, finalized=number != signal.SIGKILL if not workers else None)


@pytest.mark.parametrize("number", ALL_SIGNALS if FULL else [signal.SIGTERM], ids=lambda n: n.name)
def test_signal_to_the_group(start: Starter, tmp_path: Path, number: int) -> None:
    """The whole process group gets the signal, as from a terminal or a CI system."""
    with start("test_marked", "wait", *XDIST) as trial:
        trial.wait_for("ready").close()
        os.killpg(trial.victim, number)
        trial.wait_end()
        check_clean(trial, tmp_path)


@pytest.mark.parametrize("round_", range(20 if FULL else 1))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_signal_during_set_up(start: Starter, tmp_path: Path, number: int, round_: int) -> None:
    """A signal at an arbitrary moment of building and closing labs; a different one in every round."""
    with start("test_set_up", "wait") as trial:
        for _ in range(round_ + 1):
            trial.wait_for("namespace").close()
        os.kill(trial.victim, number)
        trial.wait_end()
        check_clean(trial, tmp_path)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("way", ["os._exit", "crash", "fork"])
def test_ends_itself(start: Starter, tmp_path: Path, way: str, test: str) -> None:
    """pytest ends without finalizers: os._exit, a crash, SIGKILL while a forked child keeps running."""
    with start(test, way, "-p", "no:faulthandler") as trial:
        trial.wait_for("ready").close()
        trial.wait_end()
        check_clean(trial, tmp_path, finalized=False)


@pytest.mark.parametrize("workers", [ALONE, XDIST] if FULL else [ALONE], ids=str)
@pytest.mark.parametrize("method", ["signal", "thread"])
def test_pytest_timeout(start: Starter, tmp_path: Path, method: str, workers: tuple[str, ...]) -> None:
    """pytest-timeout ends the test, or the whole process, without finalizers."""
    arguments = ["-p", "timeout", "--timeout=3", f"--timeout-method={method}", "-o", "timeout_func_only=true", *workers]
    with start("test_marked", "wait", *arguments, "--max-worker-restart=0") as trial:
        trial.wait_for("ready").close()
        trial.wait_end()
        check_clean(trial, tmp_path, finalized=method == "signal")


@pytest.mark.parametrize(("way", "test"), XDIST_WAYS)
def test_xdist(start: Starter, tmp_path: Path, way: str, test: str) -> None:
    """A worker is killed, or loses its controller: nothing of either remains."""
    with start(test, way, "-n", "1", "--max-worker-restart=0") as trial:
        trial.wait_for("ready").close()
        trial.wait_end()
        check_clean(trial, tmp_path)


def test_killed_worker_at_once(start: Starter, tmp_path: Path) -> None:
    """What a killed worker leaves is removed while the controller still runs."""
    with start("test_marked", "wait", "-n", "1", "--max-worker-restart=0") as trial:
        trial.wait_for("ready").close()
        (worker,) = (
            pid for pid in below(trial.victim) if b"stdin.readline" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(trial.victim, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        left = [each for each in trial.left_over() if str(trial.victim) not in each]
        os.kill(trial.victim, signal.SIGCONT)
        assert not left
        trial.wait_end()
        check_clean(trial, tmp_path)

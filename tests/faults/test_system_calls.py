"""Death and refusal at the system calls of set-up and teardown, one after the other, injected by strace(1).

Bounded by default: a sample of the points. All of them with ``NETNS_FAULTS=full``. Each test prints its line of the table.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.trial import Hang, Trial, children, is_root

FULL = os.environ.get("NETNS_FAULTS") == "full"
SAMPLE = 2
ERRORS = ["EPERM", "ENOSPC", "EMFILE", "ENOMEM", "EINTR"]
DRIVER = Path(__file__).parent / "driver.py"
# Refused, they do not say anything about the plugin: Python's own start and end, memory, and what reports the outcome.
NOT_REFUSED = {"exit", "exit_group", "rt_sigreturn", "futex", "munmap", "close", "restart_syscall", "brk"}
Point = tuple[str, int]


@pytest.fixture(params=["root", "rootless"])
def mode(request: pytest.FixtureRequest) -> str:
    if request.param == "root" and not is_root():
        pytest.skip("needs root: it is what this row is about")
    return str(request.param)


def end(strace: subprocess.Popen[bytes]) -> None:
    """End strace; it may be waiting for an init that waits for it to reap a child, so not always politely."""
    strace.terminate()
    try:
        strace.wait(10)
    except subprocess.TimeoutExpired:
        strace.kill()
        strace.wait()


@contextlib.contextmanager
def traced(mode: str, target: str, *options: str) -> Iterator[tuple[Trial, subprocess.Popen[bytes]]]:
    """A driver that is about to work, with strace on the owner's main thread, or on supervisor and inits."""
    with Trial([sys.executable, str(DRIVER), mode, target]) as trial:
        with trial.wait_for("ready") as ready:
            pids = [trial.victim]
            if target == "supervisor":
                (watchdog,) = children(trial.victim)
                pids = children(watchdog)
            follow = ["-f"] if target == "supervisor" else []
            attach = [word for pid in pids for word in ("-p", str(pid))]
            strace = subprocess.Popen(["strace", *follow, *options, *attach], stderr=subprocess.PIPE)
            assert strace.stderr is not None
            line = strace.stderr.readline()
            assert b"attached" in line, line
            ready.send(b"x")
        try:
            yield trial, strace
        finally:
            end(strace)
            strace.stderr.close()


def points(mode: str, target: str) -> list[Point]:
    """Every system call of one run: its name, and the how-manieth of that name in its process."""
    with tempfile.NamedTemporaryFile("r") as log, traced(mode, target, "-o", log.name) as (trial, strace):
        with trial.wait_for("over"):
            end(strace)
        trial.wait_end()
        assert '"outcome": "fine", "left": [], "descriptors": 0, "later": "fine"' in trial.text(), trial.text()
        counted: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for line in log.read().splitlines():
            match = re.match(r"(?:(\d+) +)?(\w+)\(", line)
            if match:
                counted[match[1]][match[2]] += 1
    most = collections.Counter[str]()
    for counter in counted.values():
        most |= counter
    return [(name, number) for name in sorted(most) for number in range(1, most[name] + 1)]


def sample(found: list[Point], seed: int) -> list[Point]:
    """All points, or a few that are spread over them."""
    if FULL:
        return found
    step = max(len(found) // SAMPLE, 1)
    return found[seed % step :: step]


def report(capsys: pytest.CaptureFixture[str], row: str, tried: int, known: int, bad: list[str], **more: int) -> None:
    """Print a line of the table; fail if there is a leak, a hang, or an error that does not say where."""
    with capsys.disabled():
        further = "".join(f", {number} {what}" for what, number in more.items())
        print(f"\n| {row} | {tried} of {known} points | {len(bad)} leaks or hangs{further} |")
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("target", ["owner", "supervisor"])
def test_killed(mode: str, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGKILL at a system call of the owner, or of the supervisor and its inits: nothing is left, nothing hangs."""
    known = points(mode, target)
    bad = []
    chosen = sample(known, 3)
    for name, number in chosen:
        inject = ["-e", f"trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={number}", "-o", "/dev/null"]
        try:
            with traced(mode, target, *inject) as (trial, strace):
                if target == "supervisor":
                    with trial.wait_for("over"):
                        end(strace)
                status = trial.wait_end()
                left = trial.left_over()
                result = outcome(trial)
                if left or (target == "owner" and status != -signal.SIGKILL):
                    bad.append(f"{name} {number}: status {status}, left {left}")
                elif result and faults_of(result):
                    bad.append(f"{name} {number}: {result}")
        except Hang as hang:
            bad.append(f"{name} {number}: {hang}")
    report(capsys, f"SIGKILL of {target}, {mode}", len(chosen), len(known), bad)


@pytest.mark.parametrize("target", ["owner", "supervisor"])
@pytest.mark.parametrize("error", ERRORS)
def test_refused(mode: str, target: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A system call fails: an error that names the step, or none; nothing is left, nothing hangs, the next lab works."""
    known = [point for point in points(mode, target) if point[0] not in NOT_REFUSED]
    chosen = sample(known, 1 + ERRORS.index(error))
    bad = []
    tolerated = 0
    for name, number in chosen:
        inject = ["-e", f"trace={name}", "-e", f"inject={name}:error={error}:when={number}", "-o", "/dev/null"]
        try:
            with traced(mode, target, *inject) as (trial, strace):
                with contextlib.suppress(Hang):  # it may have ended, see below
                    with trial.wait_for("over"):
                        end(strace)
                status = trial.wait_end()
                left = trial.left_over()
                result = outcome(trial)
                # A thread that cannot leave a namespace must not run on in it: the process says so and ends.
                said_and_ended = status == 70 and "ending the process" in trial.text()
                if left or (faults_of(result) if result else not said_and_ended):
                    bad.append(f"{name} {number} {error}: left {left}: {result or trial.text()[-600:]}")
                else:
                    tolerated += result.get("outcome") == "fine"
        except Hang as hang:
            bad.append(f"{name} {number} {error}: {hang}")
    report(capsys, f"{error} for {target}, {mode}", len(chosen), len(known), bad, tolerated=tolerated)


def outcome(trial: Trial) -> dict[str, object]:
    """What a driver that lived says."""
    match = re.search(r"^RESULT (.*)$", trial.text(), re.MULTILINE)
    return dict(json.loads(match[1])) if match else {}


def faults_of(result: dict[str, object]) -> bool:
    """Whether a driver found anything that must not be."""
    return bool(
        "UNNAMED" in str(result["outcome"]) or result["left"] or result["descriptors"] or result["later"] != "fine"
    )

"""SIGKILL and errors at the system calls of set-up and teardown, one after the other, injected by strace(1).

By default a sample of the points; all of them with ``NETNS_FAULTS=full``. Each test prints its row of the table.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.trial import Hang, Trial, is_root

FULL = os.environ.get("NETNS_FAULTS") == "full"
SAMPLE = 2
SIDE_BY_SIDE = 2 * (os.cpu_count() or 1)  # a trial waits about as long as it works
ERRORS = ["EPERM", "ENOSPC", "EMFILE", "ENOMEM", "EINTR"]
DRIVER = Path(__file__).parent / "driver.py"
# Errors of these show nothing about the plugin: Python's own start and end, memory, the report of the result, and calls
# that the kernel never refuses.
NOT_REFUSED = {"exit", "exit_group", "rt_sigreturn", "futex", "munmap", "close", "restart_syscall", "brk"}
NOT_REFUSED |= {"getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid"}
NOT_REFUSED |= {"clock_nanosleep", "rt_sigprocmask", "rseq"}
# A thread that gets no memory never tells Python that it has started, and Python waits for it forever.
NOT_REFUSED_TO_THREADS = {"mmap"}
# Python 3.11's subprocess leaks its pipes if it cannot create another one.
FORGOTTEN = {"pipe2": 2} if sys.version_info < (3, 12) else {}
START = "start of supervisor"
Point = tuple[str, int]


@pytest.fixture(params=["root", "rootless"])
def mode(request: pytest.FixtureRequest) -> str:
    if request.param == "root" and not is_root():
        pytest.skip("needs root: it is what this row is about")
    return str(request.param)


Strace = subprocess.Popen[bytes] | None


def end(strace: Strace) -> None:
    """End strace; it may wait for an init that waits to be reaped, so SIGTERM does not always suffice."""
    if strace is None:  # it belongs to the supervisor, which the driver ends
        return
    strace.terminate()
    try:
        strace.wait(10)
    except subprocess.TimeoutExpired:
        strace.kill()
        strace.wait()


@contextlib.contextmanager
def traced(mode: str, target: str, log: Path, *options: str) -> Iterator[tuple[Trial, Strace]]:
    """A driver that is ready to start, with strace on its target.

    The target is the owner with its threads; supervisor and inits, once the supervisor is ready; or everything that the
    owner starts for a supervisor, from the first system call on.
    """
    strace_path = shutil.which("strace") or "strace"
    python = log.with_suffix(".sh")
    python.write_text(f'#!/bin/sh\nexec {strace_path} -D -f -o {log} {shlex.join(options)} {sys.executable} "$@"\n')
    python.chmod(0o755)
    with Trial([sys.executable, str(DRIVER), mode, target], FAULTS_PYTHON=str(python)) as trial:
        with trial.wait_for("ready") as ready:
            if target == START:
                ready.send(b"x")
                yield trial, None
                return
            pids = [trial.supervisor if target == "supervisor" else trial.victim]
            # A child of the owner belongs to the owner until it executes another program.
            follow = ["-f"] if target == "supervisor" else ["-f", "-b", "execve"]
            attach = [word for pid in pids for word in ("-p", str(pid))]
            argv = ["strace", *follow, "-o", str(log), *options, *attach]
            strace = subprocess.Popen(argv, stderr=subprocess.PIPE)
            assert strace.stderr is not None
            line = strace.stderr.readline()
            assert b"attached" in line, line
            with contextlib.suppress(BrokenPipeError):  # the call refused was the driver's own wait for this word
                ready.send(b"x")
        try:
            yield trial, strace
        finally:
            end(strace)
            strace.stderr.close()


@dataclass(frozen=True)
class Known:
    """The record of an undisturbed run.

    Attributes:
        points: every system call: its name, and its ordinal among those of that name in its thread.
        descriptors: the number of open descriptors of the driver at the end.
    """

    points: list[Point]
    descriptors: int


def undisturbed(mode: str, target: str, log: Path) -> Known:
    """Run the driver undisturbed, and record it."""
    with traced(mode, target, log) as (trial, strace):
        with trial.wait_for("over"):
            end(strace)
        trial.wait_end()
        assert not trial.left_over()
        result = outcome(trial)
        assert (result["outcome"], result["left"], result["later"]) == ("fine", [], "fine"), trial.text()
    counted: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for line in log.read_text().splitlines():
        match = re.match(r"(?:(\d+) +)?(\w+)\(", line)
        if match:
            counted[match[1]][match[2]] += 1
    most = collections.Counter[str]()
    for counter in counted.values():
        most |= counter
    found = [(name, number) for name in sorted(most) for number in range(1, most[name] + 1)]
    return Known(found, result["descriptors"])


def sample(found: list[Point], seed: int) -> list[Point]:
    """All points, or a sample spread over them."""
    if FULL:
        return found
    step = max(len(found) // SAMPLE, 1)
    return found[seed % step :: step]


@dataclass
class Row:
    """A row of the table, and how its points are tried.

    Attributes:
        what: strace's action at a point, such as ``error=EPERM``.
        title: the row's title.
    """

    mode: str
    target: str
    what: str

    @property
    def title(self) -> str:
        kind, _, name = self.what.partition("=")
        return f"{name} {'of' if kind == 'signal' else 'for'} {self.target}, {self.mode}"

    def run(self, known: Known, chosen: list[Point], directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Try points in parallel; print problems as they are found, and the row; fail if there are any."""
        bad = []
        reached = 0
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            for point, complaint, hit in pool.map(lambda point: self._try(point, known, directory), chosen):
                reached += hit
                if complaint:
                    bad.append(f"{self.title}: {point[0]} {point[1]}: {complaint}")
                    with capsys.disabled():
                        print(f"\n{bad[-1]}", flush=True)
        with capsys.disabled():
            tried = f"{len(chosen)} of {len(known.points)} points, {reached} reached"
            print(f"\n| {self.title} | {tried} | {len(bad)} leaks or hangs |", flush=True)
        assert not bad, "\n".join(bad)

    def _try(self, point: Point, known: Known, directory: Path) -> tuple[Point, str, bool]:
        """Try one point; returns the problems, and whether the call was reached: runs differ."""
        name, number = point
        log = directory / f"{name}-{number}"
        try:
            options = ["-e", f"trace={name}", "-e", f"inject={name}:{self.what}:when={number}"]
            with traced(self.mode, self.target, log, *options) as (trial, strace):
                complaint = self._judge(trial, strace, known.descriptors + FORGOTTEN.get(name, 0))
        except Exception as error:
            complaint = f"{type(error).__name__}: {error}"
        return point, complaint, bool(re.search(r"\(INJECTED\)|killed by SIGKILL", log.read_text()))

    def _judge(self, trial: Trial, strace: Strace, descriptors: int) -> str:
        """The problems at the end of a trial, if any."""
        with contextlib.suppress(Hang):  # the driver has died or still hangs, which is reported below
            with trial.wait_for("over"):
                end(strace)
        status = trial.wait_end()
        left = trial.left_over()
        if left:
            return f"left {left}: {trial.text()[-600:]}"
        result = outcome(trial)
        if result:
            wrong = "UNNAMED" in result["outcome"] or result["left"] or result["later"] != "fine"
            return str(result) if wrong or result["descriptors"] > descriptors else ""
        if (self.what, self.target) == ("signal=SIGKILL", "owner") and status == -signal.SIGKILL:
            return ""
        # A thread that cannot leave a namespace must not keep running in it: the process reports that and ends.
        said_and_ended = status == 70 and "ending the process" in trial.text()
        return "" if said_and_ended else f"status {status}: {trial.text()[-600:]}"


def outcome(trial: Trial) -> dict[str, Any]:
    """The report of a driver that survived."""
    match = re.search(r"^RESULT (.*)$", trial.text(), re.MULTILINE)
    return dict(json.loads(match[1])) if match else {}


@pytest.mark.parametrize("target", ["owner", "supervisor", START])
def test_killed(mode: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGKILL at a system call of the owner, or of watchdog, supervisor and inits: nothing remains, nothing hangs."""
    known = undisturbed(mode, target, tmp_path / "log")
    Row(mode, target, "signal=SIGKILL").run(known, sample(known.points, 3), tmp_path, capsys)


@pytest.mark.parametrize("target", ["owner", "supervisor"])
@pytest.mark.parametrize("error", ERRORS)
def test_refused(mode: str, target: str, error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A system call fails: the error names the step, or there is none; nothing remains or hangs, and the next lab works."""
    known = undisturbed(mode, target, tmp_path / "log")
    spared = NOT_REFUSED | (NOT_REFUSED_TO_THREADS if target == "owner" else set())
    known = Known([point for point in known.points if point[0] not in spared], known.descriptors)
    Row(mode, target, f"error={error}").run(known, sample(known.points, 1 + ERRORS.index(error)), tmp_path, capsys)

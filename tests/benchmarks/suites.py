"""Whole runs of pytest, timed: an empty test, start-up, and parallel runs."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.benchmarks import race
from tests.benchmarks.programs import clean_environment

PLAIN = "import pytest\n@pytest.mark.parametrize('n', range({count}))\ndef test(n): pass\n"
MARKED = "import pytest\n@pytest.mark.netns\n@pytest.mark.parametrize('n', range({count}))\ndef test(n): pass\n"
LAN = "import pytest\n@pytest.mark.parametrize('n', range({count}))\ndef test(n, netns_lan): pass\n"

Options = Sequence[str]


def write(directory: Path, **suites: str) -> dict[str, Path]:
    """A directory for each suite, with one test file."""
    found = {}
    for name, text in suites.items():
        found[name] = directory / name
        found[name].mkdir(exist_ok=True)
        (found[name] / "test_suite.py").write_text(text)
        (found[name] / "pytest.ini").write_text("[pytest]\n")
    return found


def median_times(runs: Mapping[str, tuple[Path, Options]], rounds: int) -> dict[str, float]:
    """Seconds of each run of pytest, in turns; the median."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):  # the first one compiles
        for name, (directory, options) in runs.items():
            race.settle()
            elapsed = _run(directory, options)
            if number:
                times[name].append(elapsed)
    return {name: statistics.median(each) for name, each in times.items()}


def _run(directory: Path, options: Options) -> float:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "."]
    start = time.perf_counter()
    subprocess.run(argv, cwd=directory, env=clean_environment(), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def processes(argv: Sequence[str], count: int, rounds: int) -> float:
    """Seconds for so many rounds of up and down of a contender, shared among processes."""
    contenders = [race.Contender(argv) for _ in range(count)]
    try:
        race.settle()
        start = time.perf_counter()
        for contender in contenders:
            contender.send("up\ndown\n" * (rounds // count))
        for contender in contenders:
            contender.wait_for(rounds // count * 2)
        return time.perf_counter() - start
    finally:
        for contender in contenders:
            contender.close()

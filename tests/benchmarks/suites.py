"""Timed runs of pytest: an empty test, start-up, and parallel runs.

Start-up is measured in CPU time: it does not wait, and the noise of wall-clock time on a busy machine exceeds a few
milliseconds.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks import race
from tests.benchmarks.programs import clean_environment

PLAIN = "import pytest\n@pytest.mark.parametrize('n', range({count}))\ndef test(n): pass\n"
MARKED = "import pytest\n@pytest.mark.netns\n@pytest.mark.parametrize('n', range({count}))\ndef test(n): pass\n"
BARE = (
    "import ctypes, pytest\nbare = ctypes.CDLL({library!r}).bare\n"
    "@pytest.mark.parametrize('n', range({count}))\ndef test(n): assert bare() == 0\n"
)
FIXTURES = (
    "import pytest\n@pytest.fixture\ndef outer(): yield\n@pytest.fixture\ndef inner(outer): yield\n"
    "@pytest.mark.parametrize('n', range({count}))\ndef test(n, inner): pass\n"
)
LAN = "import pytest\n@pytest.mark.parametrize('n', range({count}))\ndef test(n, netns_lan): pass\n"


def write(directory: Path, **suites: str) -> dict[str, Path]:
    """A directory for each suite, with one test file."""
    found = {}
    for name, text in suites.items():
        found[name] = directory / name
        found[name].mkdir(exist_ok=True)
        (found[name] / "test_suite.py").write_text(text)
        (found[name] / "pytest.ini").write_text("[pytest]\n")
    return found


@dataclass
class Run:
    """The duration of a pytest run in seconds: wall-clock and CPU time."""

    clock: float
    processor: float


def measure(contenders: Mapping[str, Callable[[], Run]], rounds: int) -> dict[str, list[Run]]:
    """The times of each in each round; they alternate, so that slow periods of the machine affect all."""
    times: dict[str, list[Run]] = {name: [] for name in contenders}
    for number in range(rounds + 1):  # the first one compiles
        for name, contender in contenders.items():
            race.settle()
            elapsed = contender()
            if number:
                times[name].append(elapsed)
    return times


def beyond(runs: Sequence[Run], others: Sequence[Run]) -> Run:
    """The difference between two: the median of the differences within each round."""
    pairs = list(zip(runs, others, strict=True))
    return Run(
        median([one.clock - other.clock for one, other in pairs]),
        median([one.processor - other.processor for one, other in pairs]),
    )


def pytest_run(directory: Path, *options: str, plugins: bool = True, checkout: Path | None = None) -> Run:
    """A run of pytest on the files in a directory.

    Args:
        directory: the directory with the tests.
        options: options of pytest.
        plugins: whether to load all installed plugins; without them, runs vary less.
        checkout: use the plugin of another checkout.
    """
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "."]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = used.ru_utime + used.ru_stime
    start = time.perf_counter()
    where = {"PYTHONPATH": str(checkout)} if checkout else {}
    environment = clean_environment() | where | ({} if plugins else {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    subprocess.run(argv, cwd=directory, env=environment, capture_output=True, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(time.perf_counter() - start, used.ru_utime + used.ru_stime - before)


def processes(argv: Sequence[str], count: int, rounds: int) -> float:
    """Seconds for a number of rounds of up and down of a contender, distributed over processes."""
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

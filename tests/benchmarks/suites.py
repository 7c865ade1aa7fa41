"""Whole runs of pytest, timed: an empty test, start-up, and parallel runs.

Start-up is measured in processor time: it is work and no waiting, and a few milliseconds of it are less than what the
clock of a busy machine adds by chance.
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
    """How long a run of pytest took, in seconds: by the clock, and of the processor."""

    clock: float
    processor: float


def measure(contenders: Mapping[str, Callable[[], Run]], rounds: int) -> dict[str, list[Run]]:
    """What each has taken in each round; they take turns, so that what slows the machine down for a while hits all."""
    times: dict[str, list[Run]] = {name: [] for name in contenders}
    for number in range(rounds + 1):  # the first one compiles
        for name, contender in contenders.items():
            race.settle()
            elapsed = contender()
            if number:
                times[name].append(elapsed)
    return times


def beyond(runs: Sequence[Run], others: Sequence[Run]) -> Run:
    """How much more one took than the other: the medians of the differences within each round."""
    pairs = list(zip(runs, others, strict=True))
    return Run(
        median([one.clock - other.clock for one, other in pairs]),
        median([one.processor - other.processor for one, other in pairs]),
    )


def pytest_run(directory: Path, *options: str, plugins: bool = True) -> Run:
    """A run of pytest over what is in a directory.

    Args:
        directory: where the tests are.
        options: of pytest.
        plugins: whether all that are installed are loaded; without, a run varies less.
    """
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "."]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = used.ru_utime + used.ru_stime
    start = time.perf_counter()
    environment = clean_environment() | ({} if plugins else {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    subprocess.run(argv, cwd=directory, env=environment, capture_output=True, check=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(time.perf_counter() - start, used.ru_utime + used.ru_stime - before)


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

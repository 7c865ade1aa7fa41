"""The same benchmarks against another checkout of this project: is anything slower than it was?

Both run in turns, in processes of their own, with the same Python and the same pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

from tests.benchmarks import race, suites
from tests.benchmarks.programs import Programs
from tests.benchmarks.rows import Row

AGAINST = "the other checkout"
EMPTY_TESTS = 300
LAN_TESTS = 200


def pair(programs: Programs, scale: float) -> Iterator[Row]:
    """1: set-up and teardown of red--blue."""
    yield _race(programs, 1, "pair: set-up + teardown", ("pair",), int(60 * scale), together=5)


def nat(programs: Programs, scale: float) -> Iterator[Row]:
    """2: the picture netns_nat."""
    yield _race(programs, 2, "nat: set-up + teardown", ("nat",), int(60 * scale), together=5)


def empty_test(programs: Programs, scale: float) -> Iterator[Row]:
    """3: a marked test that does nothing."""
    where = suites.write(programs.directory, marked=suites.MARKED.format(count=EMPTY_TESTS))["marked"]
    yield _suites(programs, 3, f"{EMPTY_TESTS} marked empty tests", where, int(10 * scale))


def program(programs: Programs, scale: float) -> Iterator[Row]:
    """4: running a program, a function, and nothing."""
    for way, what in (("run", "ns.run(true)"), ("call", "ns.call"), ("with", "with ns:")):
        yield _race(programs, 4, what, (way,), int(30 * scale), together=30)


def start_up(programs: Programs, scale: float) -> Iterator[Row]:
    """5: a run of pytest whose only test does not use the plugin, or uses it."""
    where = suites.write(programs.directory, never=suites.PLAIN.format(count=1), once=suites.MARKED.format(count=1))
    for name, what in (("never", "plugin never used"), ("once", "plugin used once")):
        yield _suites(programs, 5, f"one test, {what}", where[name], int(30 * scale))


def growth(programs: Programs, scale: float) -> Iterator[Row]:
    """6: many namespaces on a bridge, many routers in a row."""
    for picture, count, rounds in (("bridge", 10, 30), ("bridge", 100, 10), ("bridge", 500, 3), ("chain", 20, 20)):
        what = f"{picture} of {count}: set-up + teardown"
        yield _race(programs, 6, what, (picture, count), int(rounds * scale))


def parallel(programs: Programs, scale: float) -> Iterator[Row]:
    """7: tests with netns_lan in several processes."""
    where = suites.write(programs.directory, lan=suites.LAN.format(count=LAN_TESTS))["lan"]
    for workers in (1, 2, 4):
        what = f"{LAN_TESTS} tests with netns_lan, -n {workers}"
        yield _suites(programs, 7, what, where, int(6 * scale), "-n", str(workers))


BENCHMARKS = (pair, nat, empty_test, program, start_up, growth, parallel)


def _race(
    programs: Programs,
    number: int,
    what: str,
    arguments: tuple[object, ...],
    rounds: int,
    together: int = 1,
) -> Row:
    contenders = {"ours": programs.ours(*arguments), "before": programs.ours(*arguments, checkout=programs.before)}
    times, failures = race.run(contenders, max(3, rounds), together=together)
    if failures:
        return Row(number, what, AGAINST, None, note="; ".join(f"{name}: {why}" for name, why in failures.items()))
    now, then = ([up + down for up, down in zip(each.up, each.down, strict=True)] for each in times.values())
    note = f"fastest {min(now) / min(then):.2f}; {median(now) * 1e3:.3g} of {median(then) * 1e3:.3g} ms"
    return Row(number, what, AGAINST, median(now) / median(then), goal="1.0", note=note)


def _suites(programs: Programs, number: int, what: str, where: Path, rounds: int, *options: str) -> Row:
    run = partial(suites.pytest_run, where, *options)
    times = suites.measure({"ours": run, "before": partial(run, checkout=programs.before)}, max(3, rounds))
    now, then = ([each.clock for each in times[name]] for name in ("ours", "before"))
    used, was = (median([each.processor for each in times[name]]) for name in ("ours", "before"))
    note = f"fastest {min(now) / min(then):.2f}; processor time {used / was:.2f}; {median(now) * 1e3:.0f} of {median(then) * 1e3:.0f} ms"
    return Row(number, what, AGAINST, median(now) / median(then), goal="1.0", note=note)

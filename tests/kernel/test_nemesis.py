"""A nemesis: faults at random times during a workload, on a schedule that can be repeated."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_netns import InvalidTopologyError, Lab, NetnsError, partitions
from pytest_netns.faults.cuts import Cut


def events(lab: Lab, seed: int | None, count: int) -> list[tuple[str, str]]:
    """The first actions of a nemesis with this seed."""
    faults: list[Callable[..., Cut]] = [
        lab["n1"].isolate,
        lambda rng: lab.partition(*partitions.halves(["n1", "n2", "n3"], rng)),
        lambda: lab.cut("n1", to="n3"),
    ]
    with lab.nemesis(faults, every=(0, 0.01), seed=seed) as nemesis:
        lab.wait_until(lambda: len(nemesis.history) >= count, timeout=30)
    assert not lab.faults.active()
    assert [each.time for each in nemesis.history] == sorted(each.time for each in nemesis.history)
    return [(each.action, each.fault.split(",")[0]) for each in nemesis.history[:count]]


@pytest.fixture
def lab(netns: Lab) -> Lab:
    """Three namespaces on a bridge."""
    switch = netns.add_bridge("switch")
    for number in (1, 2, 3):
        switch.attach(netns.add_namespace(f"n{number}"), f"10.0.0.{number}/24")
    return netns


def test_a_seed_replays_the_schedule(lab: Lab) -> None:
    """The same seed starts and heals the same faults in the same order; another seed does not."""
    first = events(lab, 7, 12)
    assert [action for action, _ in first] == ["start", "heal"] * 6
    assert events(lab, 7, 12) == first
    assert events(lab, 8, 12) != first
    assert ("start", "n1: isolated") in first


def test_faults_of_any_kind(lab: Lab) -> None:
    """A fault can be a handle, a context manager, or a function that returns nothing; an active one is healed at the end."""
    running = threading.Event()
    done: list[str] = []

    @contextmanager
    def block() -> Any:
        running.set()
        try:
            yield
        finally:
            done.append("ended")

    with lab.nemesis([block], every=(0, 0)) as nemesis:
        assert running.wait(10)
    assert "ended" in done
    assert nemesis.history[-1].action == "heal"
    assert nemesis.history[-1].fault.endswith("block")
    with lab.nemesis([lambda: done.append("called")], every=(0, 0)):
        lab.wait_until(lambda: "called" in done)


def test_a_fault_that_fails_fails_the_block(lab: Lab) -> None:
    """An error in a fault is raised at the end of the block, and is in the history."""

    def broken() -> None:
        raise NetnsError("cannot do that")

    with pytest.raises(NetnsError, match="cannot do that"), lab.nemesis([broken], every=0) as nemesis:
        lab.wait_until(lambda: nemesis.history)
    assert nemesis.history[-1].action == "error"


@pytest.mark.parametrize("every", [-1, (2, 1), "often", (1, 2, 3), True])
def test_pauses_that_make_no_sense(lab: Lab, every: Any) -> None:
    """An invalid pause is named, with the valid forms."""
    with pytest.raises(InvalidTopologyError, match=r"as pause between faults: write seconds, such as 1 or \(0\.5, 2\)"):
        lab.nemesis([lab["n1"].isolate], every=every)


def test_faults_that_make_no_sense(lab: Lab) -> None:
    """A nemesis takes functions that start faults, at least one."""
    with pytest.raises(InvalidTopologyError, match="without faults"):
        lab.nemesis([])
    with pytest.raises(InvalidTopologyError, match="give a function that starts one"):
        lab.nemesis([lab["n1"].isolate()])  # type: ignore[list-item]


SUITE = """
import random
from pytest_netns import partitions

def test_cluster(netns):
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    netns.add_veth(red, blue)
    with netns.nemesis([red.isolate, lambda: netns.cut("red", to="blue")], every=(0, 0.01)) as nemesis:
        netns.wait_until(lambda: len(nemesis.history) > 8)
    print("SCHEDULE", [event.fault for event in nemesis.history[:8]])
    assert False
"""


def schedule(output: str) -> str:
    return next(line for line in output.splitlines() if line.startswith("SCHEDULE"))


def test_the_report_tells_the_schedule_and_the_seed_that_replays_it(pytester: pytest.Pytester, tmp_path: Path) -> None:
    """A failed test's report shows the schedule with times, and the seed of the run, which repeats it, in a worker too."""
    pytester.makepyfile(SUITE)
    seed = random.SystemRandom().randrange(1 << 30)
    first = pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--netns-seed={seed}")
    text = first.stdout.str()
    assert f"; seed {seed}" in text
    assert f"replay with --netns-seed={seed}" in text
    assert "nemesis with seed" in text
    assert " s  start  isolated" in text or " s  start  cut: red does not reach blue" in text
    again = pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--netns-seed={seed}", "-n1")
    assert schedule(again.stdout.str()) == schedule(text)


def test_a_seed_that_is_no_number(pytester: pytest.Pytester) -> None:
    """An invalid seed is a usage error that names it."""
    result = pytester.runpytest_subprocess("--netns-seed=x")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--netns-seed: 'x' is not valid; write a whole number, such as 42"])

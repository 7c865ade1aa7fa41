"""Run contenders in turns; each round starts after the kernel has cleaned up the previous one."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from pytest_netns.kernel.spaces.destruction import Hub
from pytest_netns.kernel.spaces.netns import NetworkNamespace

ROOT = Path(__file__).parents[2]  # where contenders in Python import their protocol from
PATIENCE = 60.0  # seconds for the kernel to free the namespaces of a round


class CannotRun(Exception):
    """A contender does not work on this machine; the message gives the reason."""


@dataclass
class Times:
    """Seconds of each round."""

    up: list[float] = field(default_factory=list)
    down: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)  # KiB while it was up

    @property
    def total(self) -> float:
        """The median of set-up and teardown together."""
        return median([up + down for up, down in zip(self.up, self.down, strict=True)])


class Contender:
    """A program that builds a network on "up" and removes it on "down", and reports the time."""

    def __init__(self, argv: Sequence[str | Path]) -> None:
        self._program = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._read("ready")

    def step(self, name: str) -> float:
        """One step, in seconds."""
        self.send(f"{name}\n")
        return float(self._read(""))

    def send(self, steps: str) -> None:
        """Request steps, one line each."""
        assert self._program.stdin is not None
        try:
            self._program.stdin.write(steps)
            self._program.stdin.flush()
        except BrokenPipeError:
            self._give_up()

    def wait_for(self, count: int) -> None:
        """Wait until a number of steps are done."""
        for _ in range(count):
            self._read("")

    def close(self) -> None:
        """End the program."""
        self._program.communicate(timeout=PATIENCE)

    def _read(self, expected: str) -> str:
        assert self._program.stdout is not None
        line = self._program.stdout.readline().strip()
        if not line or (expected and line != expected):
            self._give_up(line)
        return line

    def _give_up(self, line: str = "") -> None:
        _, errors = self._program.communicate(timeout=PATIENCE)
        lines = errors.strip().splitlines()
        raise CannotRun(lines[-1] if lines else line or f"ended with status {self._program.returncode}")


def run(
    programs: Mapping[str, Sequence[str | Path]], rounds: int, *, together: int = 1
) -> tuple[dict[str, Times], dict[str, str]]:
    """Run all contenders in turns.

    Args:
        programs: their commands.
        rounds: the number of rounds.
        together: the number of networks built and removed in a round, one after the other as in tests; each counts.

    Returns:
        The times of each, and the reasons for those that cannot run.
    """
    running: dict[str, Contender] = {}
    failures: dict[str, str] = {}
    times = {name: Times() for name in programs}
    try:
        for name, argv in programs.items():
            try:
                running[name] = Contender(argv)
            except (CannotRun, OSError) as error:
                failures[name] = str(error)
        for number in range(rounds + 1):  # the first warms up
            for name in list(running):
                try:
                    _round(running[name], times[name] if number else Times(), together)
                except CannotRun as error:
                    failures[name] = str(error)
                    del running[name]
    finally:
        for contender in running.values():
            contender.close()
    return {name: times[name] for name in running}, failures


def _round(contender: Contender, times: Times, together: int) -> None:
    settle()
    for _ in range(together):
        before = _available_memory()
        times.up.append(contender.step("up"))
        times.memory.append(before - _available_memory())
        times.down.append(contender.step("down"))


def settle() -> None:
    """Wait until the kernel has freed all unused namespaces.

    The kernel frees them in batches, and reports the end of a namespace at the start of its batch: once it has
    reported a second one, created after the report of the first, all earlier ones have been freed.
    """
    for _ in range(2):
        hub = Hub()
        probe = NetworkNamespace.create("probe")
        hub.watch(probe, "").closed = time.monotonic()
        probe.close()
        hub.wait(PATIENCE)
        hub.close()


def _available_memory() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1])
    raise CannotRun("/proc/meminfo has no MemAvailable")

"""A nemesis: faults started and healed at random times during a workload, on a schedule that can be replayed."""

from __future__ import annotations

import inspect
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.kernel.system import threads, waiting
from pytest_netns.values.notes import Note
from pytest_netns.values.shapes import is_list

#: Starts a fault and returns an object that heals it; may take a `random.Random` for its choices.
FaultStarter: TypeAlias = Callable[..., Any]

_JOIN_TIMEOUT = 30.0  # seconds: a fault starts and heals in milliseconds


@dataclass(frozen=True)
class NemesisEvent:
    """One action of a nemesis.

    Attributes:
        time: seconds since it began.
        action: ``"start"``, ``"heal"`` or ``"error"``.
        fault: its description.
    """

    time: float
    action: str
    fault: str

    def __str__(self) -> str:
        return f"{self.time:7.3f} s  {self.action:5}  {self.fault}"


class Nemesis:
    """Runs faults, one after the other, until its block ends; the active one is then healed.

    Args:
        faults: each starts a fault and returns a context manager or something with ``heal()``, such as ``red.isolate`` or
            ``lambda rng: lab.partition(*partitions.halves(nodes, rng))``; a function with an argument gets the
            `random.Random` of the schedule.
        every: seconds to wait before each start and each healing: a number, or the minimum and maximum of a random one.
        seed: the seed of the schedule: the same seed chooses the same faults after the same pauses.
    """

    __slots__ = ("_began", "_error", "_history", "_least", "_most", "_rng", "_seed", "_starters", "_stop", "_thread")

    def __init__(self, faults: Sequence[FaultStarter], *, every: float | tuple[float, float], seed: int) -> None:
        self._starters = list(faults)
        if not self._starters:
            raise InvalidTopologyError("cannot make a nemesis without faults: give functions that start one")
        for starter in self._starters:
            if not callable(starter):
                raise InvalidTopologyError(
                    f"cannot use {starter!r} as fault: give a function that starts one, such as red.isolate, "
                    "or lambda: lab.cut('red', to='blue')"
                )
        self._least, self._most = _pauses(every)
        self._seed = seed
        self._history: list[NemesisEvent] = []
        self._rng = random.Random(seed)
        self._stop = threading.Event()
        self._began = 0.0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="netns-nemesis", daemon=True)

    @property
    def history(self) -> list[NemesisEvent]:
        """The actions so far, in order of time."""
        return list(self._history)

    @property
    def seed(self) -> int:
        """The seed in use."""
        return self._seed

    def __enter__(self) -> Self:
        self._began = waiting.now()
        threads.start(self._thread, "run a nemesis")
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.stop()
        if self._error is not None:
            if error is None:
                raise self._error
            error.add_note(f"and the nemesis failed: {self._error}")

    def stop(self) -> None:
        """Heal the active fault and start no more; idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_TIMEOUT)

    def notes(self) -> Sequence[Note]:
        """Its notes for the report of a failed test: the schedule, with times."""
        listed = self.history
        return [Note("", f"nemesis with seed {self.seed}"), *(Note("", f"  {event}") for event in listed)]

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._rng.uniform(self._least, self._most)):
                starter = self._rng.choice(self._starters)
                fault = _started(starter(self._rng) if _takes_rng(starter) else starter())
                description = _describe(fault, starter)
                self._note("start", description)
                try:
                    self._stop.wait(self._rng.uniform(self._least, self._most))
                finally:
                    _heal(fault)
                    self._note("heal", description)
        except BaseException as error:
            self._error = error
            self._note("error", f"{type(error).__name__}: {error}")

    def _note(self, action: str, description: str) -> None:
        self._history.append(NemesisEvent(waiting.now() - self._began, action, description))

    def __repr__(self) -> str:
        return f"<Nemesis with seed {self.seed}, {len(self.history)} events>"


def _pauses(every: object) -> tuple[float, float]:
    pauses = every if is_list(every) and len(every) == 2 else (every, every)
    seconds = [float(each) for each in pauses if isinstance(each, int | float) and not isinstance(each, bool)]
    if len(seconds) != 2 or not 0 <= seconds[0] <= seconds[1]:
        raise InvalidTopologyError(
            f"cannot use {every!r} as pause between faults: write seconds, such as 1 or (0.5, 2) for a random pause"
        )
    return seconds[0], seconds[1]


def _takes_rng(starter: FaultStarter) -> bool:
    try:
        parameters = inspect.signature(starter).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) and each.default is each.empty
        for each in parameters
    )


def _started(fault: Any) -> Any:
    """Enter a context manager, which starts then; an object with ``heal()`` has already started."""
    if not hasattr(fault, "heal") and hasattr(fault, "__enter__"):
        fault.__enter__()
    return fault


def _describe(fault: object, starter: FaultStarter) -> str:
    if fault is None or type(fault).__repr__ is object.__repr__:
        return str(getattr(starter, "__qualname__", starter))
    return repr(fault).strip("<>")


def _heal(fault: Any) -> None:
    """End a fault by its ``heal()``, else as a context manager; a function that returned None has nothing to end."""
    if hasattr(fault, "heal"):
        fault.heal()
    elif hasattr(fault, "__exit__"):
        fault.__exit__(None, None, None)

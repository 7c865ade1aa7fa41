"""Seeds of random numbers: derived from the run's seed, so that a run can be replayed with ``--netns-seed``."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pytest_netns.values.notes import Note

_run_seed = random.SystemRandom().getrandbits(32)


def set_run_seed(seed: int) -> None:
    """Derive all seeds from this one from now on."""
    global _run_seed
    _run_seed = seed


def run_seed() -> int:
    """The seed all others are derived from."""
    return _run_seed


class Seeds:
    """The seeds of one lab: they depend only on the run's seed and the owner, not on earlier tests.

    Args:
        owner: the owner of the lab, such as the test's node id.

    Attributes:
        used: whether any was drawn.
    """

    __slots__ = ("_owner", "_rng", "used")

    def __init__(self, owner: str) -> None:
        self._rng: random.Random | None = None
        self.used = False
        self._owner = owner

    def draw(self) -> int:
        """The next seed, of 32 bits."""
        if self._rng is None:
            self._rng = random.Random(f"{_run_seed}/{self._owner}")
        self.used = True
        return self._rng.getrandbits(32)

    def notes(self) -> Sequence[Note]:
        """Their note for the report of a failed test."""
        return [Note("", f"random numbers: replay with --netns-seed={_run_seed}")] if self.used else []

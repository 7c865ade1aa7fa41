"""Seeds of random numbers: drawn from the run's, so that a run can be replayed with ``--netns-seed``."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pytest_netns.values.notes import Note

_run_seed = random.SystemRandom().getrandbits(32)


def set_run_seed(seed: int) -> None:
    """Draw all seeds from this one from now on."""
    global _run_seed
    _run_seed = seed


def run_seed() -> int:
    """The seed all others are drawn from."""
    return _run_seed


class Seeds:
    """The seeds of one lab: the same for the same run's seed and the same owner, whichever tests run before.

    Args:
        owner: of the lab, such as the test's node id.

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
        """What the report of a failed test says of them."""
        return [Note("", f"random numbers: replay with --netns-seed={_run_seed}")] if self.used else []

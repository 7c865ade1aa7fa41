"""What becomes of each packet on an impaired link: when it arrives, how often, how. Pure, and run outside of the package.

The meanings are those of tc-netem(8). Every kind of decision has random numbers of its own, so that with a seed the same
packets of a sequence are lost whatever else is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random


class Decisions:
    """Decides for the packets that go one way over a link.

    Args:
        seed: the same seed decides the same for the same sequence of packets.
        delay, jitter: seconds.
        loss, duplicate, reorder, corrupt: shares from 0 to 1.
        rate: bits per second; None for no limit.
        limit: packets that may wait.
    """

    def __init__(
        self,
        seed: str,
        *,
        delay: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        corrupt: float = 0.0,
        rate: int | None = None,
        limit: int = 1000,
    ) -> None:
        self.limit = limit
        self._delay = delay
        self._jitter = jitter
        self._second_per_byte = 8 / rate if rate else 0.0
        self._free = 0.0  # when the last packet will have been sent
        self._loses = _chance(seed, "loss", loss)
        self._duplicates = _chance(seed, "duplicate", duplicate)
        self._reorders = _chance(seed, "reorder", reorder)
        self._corrupts = _chance(seed, "corrupt", corrupt)
        self._varies = Random(f"{seed}/jitter").random
        self._bits = Random(f"{seed}/bit")

    def copies(self) -> int:
        """How often the next packet arrives: 0, 1 or 2 times."""
        return 1 + self._duplicates() - self._loses()

    def arrival(self, now: float, size: int) -> float:
        """When a packet of so many bytes that is sent now arrives, on the same clock."""
        if self._second_per_byte:
            now = self._free = max(self._free, now) + size * self._second_per_byte
        if self._reorders():
            return now
        if self._jitter:
            return now + self._delay + self._jitter * (2 * self._varies() - 1)
        return now + self._delay

    def contents(self, frame: bytes) -> bytes:
        """What arrives of a frame: itself, or with one wrong bit."""
        if not self._corrupts():
            return frame
        bit = self._bits.randrange(8 * len(frame))
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)


def _chance(seed: str, kind: str, share: float) -> Callable[[], bool]:
    """A function that is true for a share of its calls."""
    if not share:
        return bool
    draw = Random(f"{seed}/{kind}").random
    return lambda: draw() < share

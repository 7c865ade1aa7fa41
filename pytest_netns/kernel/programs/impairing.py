"""Decide the fate of each packet on an impaired link: delay, loss, duplication, corruption. Pure, and run outside of the package.

The semantics are those of tc-netem(8). Each kind of decision has its own random numbers, so that with a seed the same
packets of a sequence are lost regardless of other impairments. Packets that the kernel sends by itself have their own too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random


class Decisions:
    """Decides for the packets in one direction of a link.

    Args:
        seed: the same seed gives the same decisions for the same sequence of packets.
        delay, jitter: seconds.
        loss, duplicate, reorder, corrupt: probabilities from 0 to 1.
        rate: bits per second; None for no limit.
        limit: the queue length in packets.
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
        self._second_per_byte = 8 / rate if rate else 0.0
        self._free = 0.0  # the time at which the last packet has been transmitted
        shares = {"loss": loss, "duplicate": duplicate, "reorder": reorder, "corrupt": corrupt}
        self._chances = (_Chances(seed, jitter, shares), _Chances(f"{seed}/background", jitter, shares))

    def arrivals(self, now: float, frame: bytes, room: int) -> list[tuple[float, bytes]]:
        """The arrivals of a frame sent now: none, one or two, each with its time on the same clock and its content.

        Args:
            room: free places in the queue; further frames are dropped.
        """
        chances = self._chances[is_background(frame)]
        arrivals: list[tuple[float, bytes]] = []
        for _ in range(min(1 + chances.duplicates() - chances.loses(), room)):
            when = now
            if self._second_per_byte:
                when = self._free = max(self._free, now) + len(frame) * self._second_per_byte
            if not chances.reorders():
                when += self._delay + chances.vary()
            arrivals.append((when, chances.contents(frame)))
        return arrivals


class _Chances:
    """The random numbers for one sequence of packets."""

    def __init__(self, seed: str, jitter: float, shares: Mapping[str, float]) -> None:
        self.loses, self.duplicates, self.reorders, self._corrupts = (
            _chance(seed, kind, shares[kind]) for kind in ("loss", "duplicate", "reorder", "corrupt")
        )
        self._jitter = jitter
        self._number = Random(f"{seed}/jitter").random
        self._bits = Random(f"{seed}/bit")

    def vary(self) -> float:
        """The deviation of the next delay, in seconds."""
        return self._jitter * (2 * self._number() - 1) if self._jitter else 0.0

    def contents(self, frame: bytes) -> bytes:
        """The frame, possibly with one bit flipped."""
        if not self._corrupts():
            return frame
        bit = self._bits.randrange(8 * len(frame))
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)


def _chance(seed: str, kind: str, share: float) -> Callable[[], bool]:
    """A function that returns true with a given probability."""
    if not share:
        return bool
    draw = Random(f"{seed}/{kind}").random
    return lambda: draw() < share


def is_background(frame: bytes) -> bool:
    """Whether the kernel sends such a frame by itself at any time: ARP, neighbour and router discovery, multicast listener reports."""
    kind = frame[12:14]
    if kind == b"\x08\x06":
        return True
    if kind != b"\x86\xdd":
        return False
    # The next header: hop by hop, as multicast listener reports have it, or ICMPv6 of the types of RFC 4861.
    return frame[20] == 0 or (frame[20] == 58 and 133 <= frame[54] <= 137) if len(frame) > 54 else False

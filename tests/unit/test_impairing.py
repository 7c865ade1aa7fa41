"""The user-space wire's decisions on packets: without privileges, and repeatable with the same seed."""

from __future__ import annotations

from typing import TypedDict, Unpack

import pytest

from pytest_netns.kernel.programs.impairing import Decisions, is_background

IPV4 = bytes(12) + b"\x08\x00" + bytes(86)
ARP = bytes(12) + b"\x08\x06" + bytes(28)
MANY = 10**6


class Odds(TypedDict, total=False):
    """The options of `Decisions` besides the seed."""

    delay: float
    jitter: float
    loss: float
    duplicate: float
    reorder: float
    corrupt: float
    rate: int


def arrivals(
    count: int, *, seed: str = "seed", background: int = 0, **values: Unpack[Odds]
) -> list[tuple[int, float, bytes]]:
    """The packets that arrive of a number sent at once: number, time, contents; with ``background`` ARP packets between."""
    decisions = Decisions(seed, **values)
    found = []
    for number in range(count):
        for _ in range(background):
            decisions.arrivals(0.0, ARP, MANY)
        found += [(number, when, frame) for when, frame in decisions.arrivals(0.0, IPV4, MANY)]
    return found


def test_a_perfect_link() -> None:
    """Without values everything arrives at once, unchanged."""
    assert arrivals(3) == [(number, 0.0, IPV4) for number in range(3)]


def test_times() -> None:
    """A packet arrives after its delay, and after earlier ones have been sent at the rate."""
    assert [when for _, when, _ in arrivals(3, delay=0.5)] == [0.5] * 3
    assert [when for _, when, _ in arrivals(3, delay=0.5, rate=8000)] == pytest.approx([0.6, 0.7, 0.8])
    assert all(0.4 <= when <= 0.6 for _, when, _ in arrivals(1000, delay=0.5, jitter=0.1))


@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
def test_shares(share: float) -> None:
    """Of 10,000 packets the shares that are lost, duplicated, reordered and corrupted are within the 99 % interval of that seed."""
    count, margin = 10_000, 2.58 * (10_000 * share * (1 - share)) ** 0.5
    assert len(arrivals(count, loss=share)) == pytest.approx(count * (1 - share), abs=margin)
    assert len(arrivals(count, duplicate=share)) == pytest.approx(count * (1 + share), abs=margin)
    at_once = [when for _, when, _ in arrivals(count, delay=1.0, reorder=share) if when == 0]
    assert len(at_once) == pytest.approx(count * share, abs=margin)
    spoilt = [frame for _, _, frame in arrivals(count, corrupt=share) if frame != IPV4]
    assert len(spoilt) == pytest.approx(count * share, abs=margin)
    assert {sum((a ^ b).bit_count() for a, b in zip(frame, IPV4, strict=True)) for frame in spoilt} == {1}


def test_a_seed_repeats() -> None:
    """The same seed decides the same, another one differently."""
    values: Odds = {"loss": 0.3, "duplicate": 0.1, "delay": 0.5, "jitter": 0.1, "corrupt": 0.2}
    assert arrivals(100, **values) == arrivals(100, **values)
    assert arrivals(100, **values) != arrivals(100, seed="other", **values)


def test_which_packets_are_lost_depends_on_nothing_else() -> None:
    """Neither on other values, nor on the kernel's own packets in between."""
    lost = [number for number, _, _ in arrivals(100, loss=0.3)]
    assert [number for number, _, _ in arrivals(100, loss=0.3, delay=0.5, jitter=0.1, corrupt=0.5)] == lost
    assert [number for number, _, _ in arrivals(100, loss=0.3, background=3)] == lost


def test_a_full_queue_loses() -> None:
    """Packets beyond the queue limit are lost."""
    decisions = Decisions("seed", duplicate=1.0)
    assert len(decisions.arrivals(0.0, IPV4, 1)) == 1
    assert decisions.arrivals(0.0, IPV4, 0) == []


@pytest.mark.parametrize(
    ("frame", "background"),
    [
        (ARP, True),
        (IPV4, False),
        (
            bytes(12) + b"\x86\xdd" + bytes(6) + b"\x3a" + bytes(33) + b"\x87" + bytes(30),
            True,
        ),  # neighbour solicitation
        (bytes(12) + b"\x86\xdd" + bytes(6) + b"\x3a" + bytes(33) + b"\x80" + bytes(30), False),  # echo request
        (bytes(12) + b"\x86\xdd" + bytes(6) + b"\x00" + bytes(64), True),  # multicast listener report
        (bytes(12) + b"\x86\xdd" + bytes(6) + b"\x06" + bytes(64), False),  # TCP
        (b"", False),
    ],
)
def test_background(frame: bytes, background: bool) -> None:
    """The kernel's own packets are distinguished from those of programs."""
    assert is_background(frame) is background

"""Parsers for times, shares, rates and counts: ``"50ms"``, ``"1%"``, ``"10mbit"``; pure."""

from __future__ import annotations

import math
import re

from pytest_netns.errors import InvalidTopologyError

# The units of tc(8). Its "bps" means bytes per second, which most people read as bits, so it is refused.
_TIMES = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "msec": 1e-3, "us": 1e-6, "usec": 1e-6, "ns": 1e-9, "nsec": 1e-9}
_RATES = {
    "bit": 1,
    "kbit": 10**3,
    "mbit": 10**6,
    "gbit": 10**9,
    "tbit": 10**12,
    "kibit": 2**10,
    "mibit": 2**20,
    "gibit": 2**30,
    "tibit": 2**40,
}
_TEXT = re.compile(r"(\d+(?:\.\d+)?) ?([a-z%]+)", re.ASCII)
MAX_TIME = 60.0  # seconds
MAX_RATE = 10**12  # bits per second
MAX_COUNT = 10**6


def parse_time(value: object, what: str = "time") -> float:
    """Parse a time up to a minute, in seconds: ``0.05``, ``"50ms"``, ``"200us"``, ``"1.5s"``."""
    seconds = _number(value)
    if seconds is None:
        seconds = _with_unit(value, _TIMES)
    if seconds is None or not 0 <= seconds <= MAX_TIME:
        raise InvalidTopologyError(
            f"cannot use {value!r} as {what}: write seconds from 0 to {MAX_TIME:g} such as 0.05, or text such as "
            "'50ms', '200us', '1.5s'"
        )
    return round(seconds, 9)


def parse_share(value: object, what: str = "share") -> float:
    """Parse a share from 0 to 1: ``0.3`` or ``"30%"``."""
    share = _number(value)
    if share is None:
        percent = _with_unit(value, {"%": 1.0})
        share = None if percent is None else percent / 100
    if share is None or not 0 <= share <= 1:
        raise InvalidTopologyError(
            f"cannot use {value!r} as {what}: write a share from 0 to 1 such as 0.3, or text such as '30%'"
        )
    return round(share, 9)


def parse_rate(value: object, what: str = "rate") -> int:
    """Parse a rate in bits per second: ``1_000_000``, ``"1mbit"``, ``"512kbit"``, ``"1.5gbit"``; units as in tc(8)."""
    valid = "write bits per second such as 1000000, or text such as '1mbit', '512kbit', '10gbit'"
    rate = _number(value)
    if rate is None:
        rate = _with_unit(value, _RATES)
    if rate is None and isinstance(value, str) and value.lower().endswith(("bps", "b/s", "bit/s")):
        raise InvalidTopologyError(f"cannot use {value!r} as {what}: it may mean bits or bytes (as in tc); {valid}")
    if rate is None or not 8 <= rate <= MAX_RATE:
        raise InvalidTopologyError(f"cannot use {value!r} as {what}: {valid}, from 8 bit to 1 tbit per second")
    return round(rate)


def parse_count(value: object, what: str = "count") -> int:
    """Parse a whole number from 1 to a million."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_COUNT:
        return value
    raise InvalidTopologyError(f"cannot use {value!r} as {what}: use a whole number from 1 to {MAX_COUNT}")


def parse_seed(value: object, what: str = "seed") -> int:
    """Parse a seed for random numbers: a whole number of 64 bits."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    raise InvalidTopologyError(f"cannot use {value!r} as {what}: use a whole number from 0 to 2**64 - 1")


def show_time(seconds: float) -> str:
    """A time as text for `parse_time`, in the largest unit without a leading zero: ``"50ms"``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{_trim(seconds / size)}{unit}"
    return f"{_trim(seconds / 1e-9)}ns" if seconds else "0s"


def show_share(share: float) -> str:
    """A share as text for `parse_share`: ``"30%"``."""
    return f"{_trim(share * 100)}%"


def show_rate(rate: int) -> str:
    """A rate as text for `parse_rate`: ``"10mbit"``."""
    for unit, size in (("gbit", 10**9), ("mbit", 10**6), ("kbit", 10**3)):
        if rate >= size:
            shown = f"{_trim(rate / size)}{unit}"
            return shown if parse_rate(shown) == rate else f"{rate}bit"
    return f"{rate}bit"


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _with_unit(value: object, units: dict[str, int] | dict[str, float]) -> float | None:
    match = _TEXT.fullmatch(value.lower()) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        return None
    return float(match[1]) * units[match[2]]


def _trim(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")

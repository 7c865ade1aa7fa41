"""The impairment of a link: a plain value, its TOML keys, and its description; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.values import parse_choice, suggest
from pytest_netns.values.quantities import (
    MAX_COUNT,
    MAX_TIME,
    parse_count,
    parse_rate,
    parse_seed,
    parse_share,
    parse_time,
    show_rate,
    show_share,
    show_time,
)
from pytest_netns.values.shapes import is_mapping

TABLE = "netns-impaired"  # prefix of the nft tables that pass packets to the user-space wire
DEFAULT_LIMIT = 1000  # packets, as tc-netem(8)

_PARSERS: Final[dict[str, Callable[[Any, str], Any]]] = {
    "delay": parse_time,
    "jitter": parse_time,
    "loss": parse_share,
    "duplicate": parse_share,
    "reorder": parse_share,
    "corrupt": parse_share,
    "rate": parse_rate,
    "limit": parse_count,
    "seed": parse_seed,
}


@dataclass(frozen=True, init=False)
class Impairment:
    """The impairment of packets that one end of a link sends.

    Times are seconds or text (``0.05``, ``"50ms"``, ``"200us"``), shares are ``0.3`` or ``"30%"``, rates are bits per
    second or text as in tc(8) (``"10mbit"``). All values mean the same as in tc-netem(8).

    Attributes:
        delay: the delay of each packet, in seconds.
        jitter: the variation of the delay, in seconds, uniformly distributed in both directions; it can reorder packets.
        loss: the share of packets that are lost.
        duplicate: the share of packets that are duplicated.
        reorder: the share of packets that are sent without delay, ahead of others.
        corrupt: the share of packets with a single bit error.
        rate: bits per second, including the Ethernet header; None for no limit.
        limit: the maximum number of packets in the queue; further ones are dropped.
        seed: the seed of random numbers; None for one drawn from the run's, see ``--netns-seed``.

    Raises:
        InvalidTopologyError: with every mistake in its ``problems``.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    rate: int | None = None
    limit: int = DEFAULT_LIMIT
    seed: int | None = None

    def __init__(
        self,
        *,
        delay: float | str = 0.0,
        jitter: float | str = 0.0,
        loss: float | str = 0.0,
        duplicate: float | str = 0.0,
        reorder: float | str = 0.0,
        corrupt: float | str = 0.0,
        rate: float | str | None = None,
        limit: int = DEFAULT_LIMIT,
        seed: int | None = None,
    ) -> None:
        given = {
            "delay": delay, "jitter": jitter, "loss": loss, "duplicate": duplicate, "reorder": reorder,
            "corrupt": corrupt, "rate": rate, "limit": limit, "seed": seed,
        }  # fmt: skip
        problems: list[str] = []
        for name, value in given.items():
            try:
                parsed = None if value is None and name in ("rate", "seed") else _PARSERS[name](value, name)
                object.__setattr__(self, name, parsed)
            except InvalidTopologyError as error:
                problems.append(str(error))
        if not problems:
            problems += self._contradictions()
        if problems:
            raise InvalidTopologyError("; ".join(problems), problems=problems)

    def _contradictions(self) -> list[str]:
        problems: list[str] = []
        if self.jitter > self.delay:
            problems.append(
                f"cannot use {show_time(self.jitter)!r} as jitter of a delay of {show_time(self.delay)!r}: no packet "
                "arrives before it is sent; give a delay of at least the jitter"
            )
        if self.reorder and not self.delay:
            problems.append(
                f"cannot use {show_share(self.reorder)!r} as reorder without delay: reordered packets are those that skip "
                "the delay; give a delay"
            )
        return problems

    def as_dict(self) -> dict[str, str | int]:
        """The values that differ from a perfect link, as text that parses to the same: ``{"delay": "50ms", "loss": "1%"}``."""
        shown: dict[str, str | int] = {}
        for name in ("delay", "jitter"):
            if getattr(self, name):
                shown[name] = show_time(getattr(self, name))
        for name in ("loss", "duplicate", "reorder", "corrupt"):
            if getattr(self, name):
                shown[name] = show_share(getattr(self, name))
        if self.rate is not None:
            shown["rate"] = show_rate(self.rate)
        if self.limit != DEFAULT_LIMIT:
            shown["limit"] = self.limit
        if self.seed is not None:
            shown["seed"] = self.seed
        return shown

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.as_dict().items()) or "none"


# Values for each direction; half the round-trip time if the source gives that.
# WebPageTest's profile "LTE": 12 Mbit/s, 70 ms round trip (connectivity.ini of WPO-Foundation/webpagetest).
LTE: Final = Impairment(delay="35ms", rate="12mbit")
# WebPageTest's profile "3G": 1.6 Mbit/s down, 300 ms round trip.
UMTS: Final = Impairment(delay="150ms", rate="1.6mbit")
# WebPageTest's profile "DSL": 1.5 Mbit/s down, 50 ms round trip.
DSL: Final = Impairment(delay="25ms", rate="1.5mbit")
# Median delay of a WiFi hop 20 ms: C. Pei et al., "WiFi can be the weakest link of round trip network latency in the
# wild", INFOCOM 2016. Rate: 40 Mbit/s, the profile "Wi-Fi" of Apple's Network Link Conditioner.
WIFI: Final = Impairment(delay="10ms", rate="40mbit")
# RFC 2488, section 2: 558 ms round trip over a geostationary satellite; a bit error rate of 10^-7 loses 0.12 % of
# packets of 1500 bytes.
SATELLITE: Final = Impairment(delay="279ms", loss="0.12%")
# Verizon's guarantee across the Pacific: 160 ms round trip (IP Latency Statistics, service level agreements).
INTERCONTINENTAL: Final = Impairment(delay="80ms")

READY: Final[dict[str, Impairment]] = {
    "WIFI": WIFI,
    "LTE": LTE,
    "UMTS": UMTS,
    "SATELLITE": SATELLITE,
    "DSL": DSL,
    "INTERCONTINENTAL": INTERCONTINENTAL,
}

_TIME = {"type": ["string", "number"], "minimum": 0, "maximum": MAX_TIME, "examples": ["50ms"]}
_SHARE = {"type": ["string", "number"], "minimum": 0, "maximum": 1, "examples": ["1%"]}
IMPAIRMENT_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "delay": {"description": "The delay of each packet: '50ms', or seconds.", **_TIME},
                "jitter": {"description": "The variation of the delay, in both directions.", **_TIME},
                "loss": {"description": "The share of packets that are lost: '1%' or 0.01.", **_SHARE},
                "duplicate": {"description": "The share of packets that are duplicated.", **_SHARE},
                "reorder": {"description": "The share of packets that are sent without delay.", **_SHARE},
                "corrupt": {"description": "The share of packets with a bit error.", **_SHARE},
                "rate": {
                    "description": "Rate: '10mbit', or bits per second.",
                    "type": ["string", "number"],
                    "examples": ["10mbit"],
                },
                "limit": {
                    "description": "The maximum number of packets in the queue.",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_COUNT,
                    "default": DEFAULT_LIMIT,
                },
                "seed": {"description": "The seed of random numbers.", "type": "integer", "minimum": 0},
            },
        },
        {"enum": list(READY)},
    ],
    "examples": [{"delay": "50ms", "loss": "1%"}],
}


def parse_impairment(value: object) -> Impairment:
    """Parse an impairment: an `Impairment`, a table of its values, or the name of a ready-made one: ``"LTE"``.

    Raises:
        InvalidTopologyError: with every mistake in its ``problems``.
    """
    if isinstance(value, Impairment):
        return value
    if isinstance(value, str):
        return READY[parse_choice(value, READY, "impairment")]
    if is_mapping(value):
        return _from_table(value)
    raise InvalidTopologyError(
        f"cannot use {value!r} as impairment: write an Impairment, in TOML a table such as "
        f"{{ delay = '50ms', loss = '1%' }}, or one of {', '.join(READY)}"
    )


def _from_table(table: Mapping[Any, Any]) -> Impairment:
    problems = [
        f"cannot use key {key!r} in an impairment: {suggest(key, _PARSERS)}" for key in table if key not in _PARSERS
    ]
    impairment = None
    try:
        impairment = Impairment(**{key: item for key, item in table.items() if key in _PARSERS})
    except InvalidTopologyError as error:
        problems += error.problems
    if problems or impairment is None:
        raise InvalidTopologyError("; ".join(problems), problems=problems)
    return impairment


def given_impairment(impairment: object, values: Mapping[str, Any]) -> Impairment:
    """The impairment from the arguments of ``impair``: anything `parse_impairment` accepts, or the keywords of one."""
    if impairment is None:
        if not values:
            raise InvalidTopologyError(
                f"cannot impair without values: give some ({', '.join(each.name for each in fields(Impairment))}) or an "
                "Impairment; heal() ends an impairment"
            )
        return parse_impairment(values)
    if values:
        raise InvalidTopologyError(
            f"cannot use both {impairment!r} and {', '.join(values)}: give an Impairment or its values"
        )
    return parse_impairment(impairment)

"""Impairments are plain values: parsed once, and errors list the valid forms."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_netns import (
    DSL,
    INTERCONTINENTAL,
    LTE,
    SATELLITE,
    UMTS,
    WIFI,
    BridgeSpec,
    Impairment,
    InvalidTopologyError,
    PortSpec,
    Topology,
    VethEnd,
    VethSpec,
)
from pytest_netns.parts.impairment import given_impairment, parse_impairment
from pytest_netns.values import quantities

TABLE = """
[[veths]]
impairment = { delay = "50ms", loss = "1%" }
ends = [{ namespace = "red", impairment = "LTE" }, { namespace = "blue" }]

[[bridges]]
name = "v-net-0"
ports = [{ namespace = "red", impairment = { rate = "1mbit", limit = 5 } }]
"""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(0.05, 0.05), ("50ms", 0.05), ("200us", 0.0002), ("1.5s", 1.5), ("1 msec", 0.001), ("10NS", 1e-8), (0, 0)],
)
def test_times(text: object, seconds: float) -> None:
    """Seconds, or text with a unit of tc(8)."""
    assert quantities.parse_time(text) == seconds


@pytest.mark.parametrize(("text", "share"), [(0.3, 0.3), ("30%", 0.3), ("0.1%", 0.001), (1, 1), ("100%", 1)])
def test_shares(text: object, share: float) -> None:
    """A number from 0 to 1, or a percentage."""
    assert quantities.parse_share(text) == share


@pytest.mark.parametrize(
    ("text", "rate"), [("10mbit", 10**7), ("1.5Gbit", 1.5e9), ("64kibit", 65536), (9600, 9600), ("512 kbit", 512000)]
)
def test_rates(text: object, rate: int) -> None:
    """Bits per second, or text with a unit of tc(8)."""
    assert quantities.parse_rate(text) == rate


@pytest.mark.parametrize(
    ("name", "value", "valid"),
    [
        ("delay", "50", "'50ms'"),
        ("delay", -1, "'50ms'"),
        ("delay", "2 minutes", "'50ms'"),
        ("delay", float("nan"), "'50ms'"),
        ("delay", True, "'50ms'"),
        ("delay", 61, "0 to 60"),
        ("loss", 30, "'30%'"),
        ("loss", "101%", "'30%'"),
        ("loss", "0.3", "'30%'"),
        ("rate", "10mbps", "bits or bytes"),
        ("rate", "fast", "'1mbit'"),
        ("rate", 0, "'1mbit'"),
        ("limit", 0, "1 to"),
        ("limit", 1.5, "1 to"),
        ("seed", -1, "0 to 2**64"),
        ("seed", "x", "0 to 2**64"),
    ],
)
def test_wrong_values(name: str, value: Any, valid: str) -> None:
    """An error names the value, its purpose, and the valid forms."""
    with pytest.raises(InvalidTopologyError) as caught:
        Impairment(**{name: value})
    assert f"cannot use {value!r} as {name}" in str(caught.value)
    assert valid in str(caught.value)


def test_all_mistakes_are_reported_at_once() -> None:
    """Several invalid values are several problems of one error."""
    with pytest.raises(InvalidTopologyError) as caught:
        Impairment(delay="x", loss="y")
    assert len(caught.value.problems) == 2


def test_contradictions() -> None:
    """Impossible values are refused: arrival before sending, reordering without delay."""
    with pytest.raises(InvalidTopologyError, match="cannot use '20ms' as jitter of a delay of '10ms'"):
        Impairment(delay="10ms", jitter="20ms")
    with pytest.raises(InvalidTopologyError, match="cannot use '5%' as reorder without delay"):
        Impairment(reorder="5%")


def test_it_is_a_frozen_value() -> None:
    """Equal values are equal and hash alike; they are immutable."""
    assert Impairment(delay="50ms") == Impairment(delay=0.05)
    assert hash(Impairment(loss="1%")) == hash(Impairment(loss=0.01))
    with pytest.raises(AttributeError):
        Impairment().delay = 1.0  # type: ignore[misc]


TIMES = st.integers(0, 60 * 10**9).map(lambda nanoseconds: nanoseconds / 10**9)
SHARES = st.integers(0, 10**9).map(lambda parts: parts / 10**9)


@given(delay=TIMES, loss=SHARES, rate=st.integers(8, 10**12), seed=st.none() | st.integers(0, 2**64 - 1))
def test_what_is_shown_can_be_read_again(delay: float, loss: float, rate: int, seed: int | None) -> None:
    """The text form of any impairment gives an equal one."""
    impairment = Impairment(delay=delay, loss=loss, rate=rate, seed=seed)
    assert parse_impairment(impairment.as_dict()) == impairment


def test_its_words() -> None:
    """A drawing shows the values that differ from a perfect link, as in tc."""
    impairment = Impairment(delay=0.05, jitter="5ms", loss=0.3, rate=10**6, limit=10, seed=7)
    assert str(impairment) == "delay 50ms, jitter 5ms, loss 30%, rate 1mbit, limit 10, seed 7"
    assert str(Impairment()) == "none"


def test_ready_values() -> None:
    """Each preset slows packets down, and TOML accepts its name."""
    for name, ready in {"WIFI": WIFI, "LTE": LTE, "UMTS": UMTS, "SATELLITE": SATELLITE, "DSL": DSL}.items():
        assert ready.delay > 0
        assert parse_impairment(name) is ready
    assert parse_impairment("INTERCONTINENTAL") is INTERCONTINENTAL
    assert UMTS.delay > LTE.delay


def test_an_impairment_or_its_values() -> None:
    """impair() accepts either; both, neither and unknown values are refused."""
    assert given_impairment(None, {"delay": "1s"}) == given_impairment(Impairment(delay=1), {}) == Impairment(delay=1)
    with pytest.raises(InvalidTopologyError, match="cannot impair without values"):
        given_impairment(None, {})
    with pytest.raises(InvalidTopologyError, match="cannot use both"):
        given_impairment(LTE, {"loss": 0.1})
    with pytest.raises(InvalidTopologyError, match="did you mean 'delay'"):
        given_impairment(None, {"dely": "1s"})


def test_in_a_topology() -> None:
    """In TOML and in Python: for each direction of a veth pair, for packets an end sends, for a port's link."""
    topology = Topology.loads(TABLE)
    assert topology == Topology(
        veths=[VethSpec([VethEnd("red", impairment=LTE), VethEnd("blue")], impairment={"delay": 0.05, "loss": 0.01})],
        bridges=[BridgeSpec("v-net-0", ports=[PortSpec("red", impairment=Impairment(rate="1mbit", limit=5))])],
    )
    assert Topology.loads(topology.dumps()) == topology
    ends = topology.assigned().veths[0].ends
    assert ends[0].impairment == LTE
    assert ends[1].impairment == Impairment(delay="50ms", loss="1%")


def test_a_drawing_says_which_direction() -> None:
    """50 % loss is unambiguous: a veth end sends with it, a port's link has it both ways."""
    drawing = Topology.loads(TABLE).draw()
    assert "sends: delay 35ms, rate 12mbit" in drawing
    assert "veth-blue  sends: delay 50ms, loss 1%" in drawing
    assert "veth-red  sends and receives: rate 1mbit, limit 5" in drawing


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('{ dely = "50ms" }', "impairment: cannot use key 'dely' in an impairment"),
        ('{ loss = "101%" }', "impairment: cannot use '101%' as loss"),
        ('"LTEX"', "did you mean 'LTE'?"),
        ("5", "impairment: cannot use 5 as impairment"),
    ],
)
def test_mistakes_in_a_topology(given: str, message: str) -> None:
    """A mistake has its key path."""
    with pytest.raises(InvalidTopologyError) as caught:
        Topology.loads(TABLE.replace('"LTE"', given))
    assert "veths[0].ends[0]." in str(caught.value)
    assert message in str(caught.value)


def test_the_schema() -> None:
    """Editors accept what the code accepts, and refuse unknown keys."""
    validator = jsonschema.Draft202012Validator(json.loads(json.dumps(Topology.json_schema())))
    veth: dict[str, Any] = {"ends": [{"namespace": "red"}, {"namespace": "blue"}]}
    for good in ({"delay": "50ms", "loss": 0.1, "seed": 3}, "LTE"):
        validator.validate({"veths": [veth | {"impairment": good}]})
    for bad in ({"dely": "50ms"}, "LTEX", {"loss": 2}):
        assert not validator.is_valid({"veths": [veth | {"impairment": bad}]})

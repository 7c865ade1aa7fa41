"""The requirements of a test: the features that the doctor tries, by name."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from pytest_netns.errors import UnavailableError
from pytest_netns.machine import probes, probing
from pytest_netns.values import parse_choice


def parse_needs(given: str | Iterable[str]) -> tuple[str, ...]:
    """Parse the names of required features, such as ``"tun"`` or ``["netem", "wireguard"]``.

    Raises:
        InvalidTopologyError: a name that the doctor does not know; lists the valid ones.
    """
    names = [given] if isinstance(given, str) else list(given)
    return tuple(parse_choice(name, _known(), "thing that a test needs") for name in names)


def require(names: Iterable[str]) -> None:
    """Check that this machine has all of them; each is tried once.

    Raises:
        UnavailableError: one is missing; with the doctor's cause and remedy.
    """
    for name in names:
        result = _try(name)
        if not result.ok:
            feature = f"interface {name}" if result.probe.group == "interfaces" else name
            raise UnavailableError(feature, result.cause, result.remedy)


@functools.cache
def _known() -> dict[str, probing.Probe]:
    return {probe.name: probe for probe in probes.everything()}


@functools.cache
def _try(name: str) -> probing.Result:
    (result,) = probing.run([_known()[name]])
    return result

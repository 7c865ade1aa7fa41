"""Parsers for keywords, with suggestions for unknown ones; pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pytest_netns.errors import InvalidTopologyError

SUGGESTED = 20
PROTOCOLS = ("tcp", "udp")
ENGINES = ("auto", "netem", "userspace")  # what impairs links


def parse_choice(value: object, choices: Iterable[str], what: str) -> str:
    """Check that a value is one of the choices, and return it."""
    valid = list(choices)
    if isinstance(value, str) and value in valid:
        return value
    raise InvalidTopologyError(f"cannot use {value!r} as {what}: {suggest(value, valid)}")


def parse_protocol(value: object) -> str:
    """Parse ``"tcp"`` or ``"udp"``."""
    return parse_choice(value, PROTOCOLS, "protocol")


def suggest(value: Any, valid: Iterable[object]) -> str:
    """The end of an error message: ``valid are a, b (did you mean 'a'?)``."""
    names = [str(name) for name in valid]
    close = difflib.get_close_matches(str(value), names, n=1)
    listing = ", ".join(repr(name) for name in names[:SUGGESTED]) or "none"
    if len(names) > SUGGESTED:
        listing += f" and {len(names) - SUGGESTED} more"
    return f"valid are {listing}" + (f" (did you mean {close[0]!r}?)" if close else "")

"""Parsers for ports and port ranges: ``80``, ``"5000-5010"``, ``range(5000, 5011)``; pure."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TypeAlias

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.values.shapes import is_list

MIN_PORT, MAX_PORT = 1, 65535
# Far more digits than a port has, but within the limit of int().
_NUMBERS = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")


@dataclass(frozen=True, order=True)
class PortRange:
    """The ports from the first to the last, inclusive; as text ``"5000-5010"``."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """The number of ports."""
        return self.last - self.first + 1

    def overlaps(self, other: PortRange) -> bool:
        """Whether they have a port in common."""
        return self.first <= other.last and other.first <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


Ports: TypeAlias = int | PortRange


def parse_port(value: object, what: str = "port") -> int:
    """Parse a port number, 1 to 65535."""
    if isinstance(value, int) and not isinstance(value, bool) and MIN_PORT <= value <= MAX_PORT:
        return value
    raise InvalidTopologyError(
        f"cannot use {value!r} as {what}: a port is a whole number from {MIN_PORT} to {MAX_PORT}"
    )


def parse_ports(value: object, what: str = "port") -> Ports:
    """Parse a port or a range: ``80``, ``"80"``, ``"5000-5010"``, ``range(5000, 5011)`` or a pair (first, last)."""
    if isinstance(value, int):
        return parse_port(value, what)
    if isinstance(value, PortRange):
        first, last = value.first, value.last
    elif isinstance(value, range) and value.step == 1 and len(value):
        first, last = value[0], value[-1]
    elif is_list(value) and len(value) == 2 and all(type(each) is int for each in value):
        first, last = value
    elif isinstance(value, str) and (numbers := _NUMBERS.fullmatch(value)):
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
    else:
        raise InvalidTopologyError(
            f"cannot use {value!r} as {what}: write a port from 1 to 65535, or a range such as '5000-5010'"
        )
    if not MIN_PORT <= first <= last <= MAX_PORT:
        raise InvalidTopologyError(
            f"cannot use {value!r} as {what}: ports are from {MIN_PORT} to {MAX_PORT}, and a range starts with the lower one"
        )
    return first if first == last else PortRange(first, last)


@functools.cache
def as_range(ports: Ports) -> PortRange:
    """A single port as a range."""
    return PortRange(ports, ports) if isinstance(ports, int) else ports

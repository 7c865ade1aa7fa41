"""Find the port forwards that conflict with another one, among thousands; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from pytest_netns.parts.gateway.forward import PortForwardSpec, conflicts
from pytest_netns.values import PortRange, as_range

T = TypeVar("T")
_BUCKET_BITS = 4  # the low bits of a port that share a bucket


class PortIndex(Generic[T]):
    """The port forwards of a namespace, indexed by port, so that a lookup takes the same time with 1 and with 1,000."""

    def __init__(self) -> None:
        self._found: dict[int, list[tuple[int, int, PortForwardSpec, T]]] = {}

    def add(self, spec: PortForwardSpec, value: T) -> None:
        """Add a port forward with a value."""
        ports = as_range(spec.port)
        for bucket in _buckets(ports):
            self._found.setdefault(bucket, []).append((ports.first, ports.last, spec, value))

    def update(self, other: PortIndex[T]) -> None:
        """Add all of another index."""
        for bucket, found in other.items():
            self._found.setdefault(bucket, []).extend(found)

    def items(self) -> Iterable[tuple[int, list[tuple[int, int, PortForwardSpec, T]]]]:
        """First and last port, port forward and value, by groups of ports."""
        return self._found.items()

    def conflicting(self, spec: PortForwardSpec) -> Iterator[tuple[PortForwardSpec, T]]:
        """The port forwards that match some of the same connections."""
        if not self._found:
            return
        ports = as_range(spec.port)
        first, last = ports.first, ports.last
        for bucket in _buckets(ports):
            for other_first, other_last, other, value in self._found.get(bucket, ()):
                if other_first <= last and first <= other_last and conflicts(spec, other):
                    yield other, value


def _buckets(ports: PortRange) -> range:
    return range(ports.first >> _BUCKET_BITS, (ports.last >> _BUCKET_BITS) + 1)

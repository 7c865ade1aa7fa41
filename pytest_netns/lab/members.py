"""The namespaces of a lab by name, in the order they were added."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, LabClosedError
from pytest_netns.lab.namespace import Namespace


class Members:
    """The part of `Lab` that keeps its namespaces, and its undo functions."""

    __slots__ = ("_closed", "_namespaces", "_undo")

    def __init__(self) -> None:
        self._namespaces: dict[str, Namespace] = {}
        self._undo: list[Callable[[], None]] = []
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._closed

    def __getitem__(self, name: str) -> Namespace:
        try:
            return self._namespaces[name]
        except KeyError:
            listing = values.suggest(name, self._namespaces)
            raise InvalidTopologyError(f"cannot find namespace {name!r} in this lab: {listing}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._namespaces

    def __iter__(self) -> Iterator[Namespace]:
        return iter(tuple(self._namespaces.values()))

    def __len__(self) -> int:
        return len(self._namespaces)

    def check_open(self) -> None:
        """Raise an error if the lab is closed."""
        if self._closed:
            raise LabClosedError

    def check_member(self, namespace: object) -> None:
        """Raise an error unless it is a namespace of this lab, and the lab is open."""
        self.check_open()
        if not isinstance(namespace, Namespace):
            raise InvalidTopologyError(f"cannot use {namespace!r} as namespace: pass what lab.add_namespace() returned")
        if namespace.lab is not self:
            raise InvalidTopologyError(
                f"cannot use namespace {namespace.name!r} in this lab: it belongs to another lab"
            )

    def names_of(self, given: Namespace | str | Iterable[Namespace | str]) -> list[str]:
        """The names of one or several namespaces of this lab, given as objects or names."""
        self.check_open()
        several = [given] if isinstance(given, str | Namespace) else list(given)
        for each in several:
            if not isinstance(each, str):
                self.check_member(each)
        names = [self[each].name if isinstance(each, str) else each.name for each in several]
        if not names:
            raise InvalidTopologyError("cannot use an empty group of namespaces: name at least one")
        return list(dict.fromkeys(names))

    def at_end(self, undo: Callable[[], None]) -> None:
        """Register an undo function that runs when the lab is closed, before its namespaces are removed."""
        self.check_open()
        self._undo.append(undo)

"""The marker ``netns``: its arguments, parsed once, and running the test's body inside."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_netns.plugin import inside

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab
    from pytest_netns.topology import Topology

MARKER_HELP = (
    "netns(topology=None, *, enter='host', namespaces=[...], subnet=..., subnet6=..., masquerade=False, "
    "forward={port: target}, needs=[...]): run the test's body inside its own network; topology is 'pair', 'lan', 'nat', "
    "a .toml file or a Topology"
)


class Marker(NamedTuple):
    """A ``netns`` marker.

    Attributes:
        topology: the name of a picture, a path, a Topology, or None.
        inline: the keyword arguments of the inline form.
        enter: the namespace the test's body runs in; None for none.
        needs: the features this machine must have, by the doctor's names.
    """

    topology: Any
    inline: Mapping[str, Any]
    enter: str | None
    needs: tuple[str, ...] = ()


MARKER = pytest.StashKey[Marker | None]()  # of every test
BODY_INSIDE = "_netns_body_inside"
OUTSIDE = (
    "cannot run this test's body inside its namespace: a {kind} does not use pytest's fixtures, or another plugin has "
    "replaced them; remove the marker, and use a lab's namespaces in the body"
)


_INLINE = ("namespaces", "subnet", "subnet6", "masquerade", "forward")
_OTHERS = ("enter", "needs")


def parse_marker(item: pytest.Item) -> Marker | None:
    """The closest ``netns`` marker of a test: on its parameters, else the function, its class, its module.

    Raises:
        pytest.UsageError: arguments the marker does not take.
    """
    of_parameters = [mark for mark in getattr(getattr(item, "callspec", None), "marks", ()) if mark.name == "netns"]
    mark = of_parameters[-1] if of_parameters else item.get_closest_marker("netns")
    if mark is None:
        return None
    inline = {key: value for key, value in mark.kwargs.items() if key in _INLINE}
    unknown = sorted(set(mark.kwargs) - {*_INLINE, *_OTHERS})
    if unknown:
        valid = ", ".join([*_INLINE, *_OTHERS])
        raise pytest.UsageError(f"{item.nodeid}: marker netns takes no argument {unknown[0]!r}; valid are: {valid}")
    if len(mark.args) > 1 or (mark.args and inline):
        raise pytest.UsageError(
            f"{item.nodeid}: marker netns takes one topology: the name of a picture, a path or a Topology, "
            f"or the inline form ({', '.join(_INLINE)}), not several"
        )
    needs = _parse_needs(item, mark.kwargs.get("needs", ()))
    return Marker(mark.args[0] if mark.args else None, inline, mark.kwargs.get("enter", "host"), needs)


def _parse_needs(item: pytest.Item, given: Any) -> tuple[str, ...]:
    if not given or sys.platform != "linux":
        return ()
    from pytest_netns.errors import InvalidTopologyError
    from pytest_netns.machine.needs import parse_needs

    try:
        return parse_needs(given)
    except (InvalidTopologyError, TypeError) as error:
        raise pytest.UsageError(f"{item.nodeid}: marker netns: needs: {error}") from error


def apply_marker(item: pytest.Item) -> None:
    """Make a test with the marker use the fixture that runs its body inside.

    Raises:
        pytest.UsageError: arguments the marker does not take.
    """
    item.stash[MARKER] = marker = parse_marker(item)
    if marker is not None:
        # A separate fixture if it must run after a replacement of `netns`.
        _use_first(item, BODY_INSIDE if _is_replaced(item, "netns") else "netns")


def require_inside(item: pytest.Item) -> None:
    """Fail a test with the marker if no fixture has set it up, rather than run it in the real host's network."""
    asked = item.stash.get(MARKER, None)
    if asked is not None and asked.enter is not None and inside.INSIDE not in item.stash:
        pytest.fail(OUTSIDE.format(kind=type(item).__name__), pytrace=False)


def _use_first(item: pytest.Item, name: str) -> None:
    """Make a fixture the first function-scoped one of a test, after those of wider scope."""
    given: Sequence[str] | None = getattr(item, "fixturenames", None)
    if given is None:
        return
    names = [each for each in given if each != name]  # a new list: parametrized tests of one function share theirs
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    scopes = [known[each][-1].scope if known.get(each) else "function" for each in names]
    names.insert(scopes.index("function") if "function" in scopes else len(names), name)
    item.fixturenames = names  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def _is_replaced(item: pytest.Item, name: str) -> bool:
    """Whether a test uses a fixture of that name that is not the plugin's, or a parameter; also true if pytest does not know."""
    if name in getattr(getattr(item, "callspec", None), "params", ()):  # a parameter may also have another scope
        return True
    manager = getattr(item.session, "_fixturemanager", None)
    return manager is None or len(manager.getfixturedefs(name, item) or ()) != 1


def load_topology(marker: Marker, file: Path, root: Path) -> Topology | None:
    """Load the topology of a marker: a picture, a value, a file relative to the test file and then the root, or inline."""
    from pytest_netns.lab import factory

    if marker.inline:
        from pytest_netns.topology import Topology

        return Topology.inline(**marker.inline)
    return None if marker.topology is None else factory.topology_of(marker.topology, file, root)


@contextlib.contextmanager
def body_inside(lab: Lab, marker: Marker, node: Any) -> Generator[None]:
    """Build a marker's topology, and run the test's body and its further fixtures inside."""
    topology = load_topology(marker, node.path, node.config.rootpath)
    if topology is not None:
        lab.build(topology)
    if marker.enter is None:
        yield
        return
    node.stash[inside.INSIDE] = lab.host if marker.enter == "host" else lab[marker.enter]
    try:
        yield
    finally:
        del node.stash[inside.INSIDE]

"""The changes in a lab since the end of set-up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pytest_netns.drawing.state import NamespaceState
from pytest_netns.errors import show_argv, show_status
from pytest_netns.explaining.snapshot import Moment, Snapshot
from pytest_netns.explaining.state import changes
from pytest_netns.lab import states
from pytest_netns.lab.settings import FORWARDING


def differences(since: Snapshot, now: Sequence[NamespaceState]) -> Iterator[str]:
    """A line for each thing that is gone (``-``) or new (``+``)."""
    after = {state.name: state for state in now}
    before = {
        name: _state(name, moment, after.get(name, NamespaceState(name))) for name, moment in since.namespaces.items()
    }
    yield from changes(before, after)
    for name, moment in since.namespaces.items():
        for each in moment.processes:
            if each.poll() is not None:
                yield f"- {name}: process {show_argv(each.args)}, ended with {show_status(each.returncode)}"


def _state(name: str, moment: Moment, now: NamespaceState) -> NamespaceState:
    loopback = tuple(each for each in now.interfaces if each.name == "lo")
    network = NamespaceState(name, loopback)
    if moment.tables is not None:
        network = states.decode(name, moment.tables, moment.notes)
    return NamespaceState(
        name,
        network.interfaces,
        network.routes,
        listening=moment.listening or (),
        ruleset=moment.ruleset,
        forwarding=moment.settings.get(FORWARDING) == "1",
        notes=states.texts(moment.notes, ""),
        settings=show_settings(moment.settings),
        unknown=frozenset() if moment.listening is not None else frozenset({"listening"}),
    )


def show_settings(settings: Mapping[str, str]) -> tuple[str, ...]:
    """Sysctls as ``NAME = VALUE``, except forwarding, which is a note."""
    return tuple(f"{name} = {value}" for name, value in settings.items() if name != FORWARDING)

"""Snapshot of a lab at the end of set-up: taken for every test, so it is cheap: undecoded, without importing decoders.

Only state that may exist is read from the kernel: a namespace with only its loopback interface costs
nothing. Whether processes and neighbours are newer is determined by their start times.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from pytest_netns.kernel.spaces import listening
from pytest_netns.lab.namespace import Namespace
from pytest_netns.values.notes import Note

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.links import Tables
    from pytest_netns.running.process import Process


class Moment(NamedTuple):
    """A namespace at the end of set-up, undecoded.

    Attributes:
        tables: interfaces, addresses and routes; None if it had only its loopback interface.
        notes: the notes of components and faults.
        settings: the sysctls that had been written.
        processes: the programs that ran.
        listening: the listening sockets; None if not read, since no program ran.
        ruleset: the nft ruleset as text.
    """

    tables: Tables | None
    notes: tuple[Note, ...]
    settings: Mapping[str, str]
    processes: tuple[Process, ...]
    listening: tuple[str, ...] | None
    ruleset: str


class Snapshot(NamedTuple):
    """A lab at the end of set-up.

    Attributes:
        taken: seconds since boot.
        namespaces: by name.
    """

    taken: float
    namespaces: Mapping[str, Moment]


def snapshot(lab: Lab) -> Snapshot:
    """Take a snapshot of a lab: about 0.1 ms for each namespace with interfaces, 0.3 ms for one with programs."""
    notes = lab.notes.by_namespace()
    return Snapshot(clock(), {each.name: _moment(each, notes.get(each.name, ())) for each in lab})


def clock() -> float:
    """Seconds since boot: the clock of process start times."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _moment(namespace: Namespace, notes: tuple[Note, ...]) -> Moment:
    processes = tuple(each for each in namespace.programs.processes if each.poll() is None)
    return Moment(
        # With only a loopback interface, skip it: the kernel may be freeing the namespaces of the test before, which blocks
        # reads.
        namespace.links.tables() if namespace.links.made or namespace.programs.view is not None else None,
        notes,
        dict(namespace.settings.written),
        processes,
        listening_sockets(namespace) if processes else None,
        read_ruleset(namespace) if namespace.programs.view is not None or _has_user_rules(namespace) else "",
    )


def listening_sockets(namespace: Namespace) -> tuple[str, ...]:
    """The listening sockets as text."""
    return tuple(map(str, listening.listening(namespace.programs.network, "tcp", "udp")))


def read_ruleset(namespace: Namespace) -> str:
    """The nft ruleset as text; nft is not called if there never was a rule."""
    return namespace.ruleset() if namespace.packet_rules.ruleset.has_ever_had_rules() else ""


def _has_user_rules(namespace: Namespace) -> bool:
    return Namespace.packet_rules.is_created(namespace) and namespace.packet_rules.ruleset.has_user_text

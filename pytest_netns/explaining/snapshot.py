"""What a lab is when set-up has ended: remembered of every test, so cheaply, undecoded, and without what decodes it.

Only what may be there is asked of the kernel: a namespace that has been given nothing but its loopback interface costs
nothing. Processes and neighbours tell by their own clocks whether they are newer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from pytest_netns.kernel.spaces import listening
from pytest_netns.values.notes import Note

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.links import Tables
    from pytest_netns.lab.namespace import Namespace
    from pytest_netns.running.process import Process


class Moment(NamedTuple):
    """A namespace when set-up had ended, undecoded.

    Attributes:
        tables: interfaces, addresses and routes; None where it had nothing but its loopback interface.
        notes: what components and faults said of it.
        settings: the sysctls that had been written.
        processes: the programs that ran.
        listening: the sockets that listened; None where nobody asked, since no program ran.
        ruleset: nft's, as text.
    """

    tables: Tables | None
    notes: tuple[Note, ...]
    settings: Mapping[str, str]
    processes: tuple[Process, ...]
    listening: tuple[str, ...] | None
    ruleset: str


class Snapshot(NamedTuple):
    """A lab when set-up had ended.

    Attributes:
        taken: seconds since the machine was started.
        namespaces: by name.
    """

    taken: float
    namespaces: Mapping[str, Moment]


def snapshot(lab: Lab) -> Snapshot:
    """Remember a lab as it is now: about 0.1 ms for each namespace with interfaces, 0.3 ms for one with programs."""
    notes = lab.notes.by_namespace()
    return Snapshot(clock(), {each.name: _moment(each, notes.get(each.name, ())) for each in lab})


def clock() -> float:
    """Seconds since the machine was started: what the kernel counts the age of processes by."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _moment(namespace: Namespace, notes: tuple[Note, ...]) -> Moment:
    processes = tuple(each for each in namespace.programs.processes if each.poll() is None)
    return Moment(
        # Where there is only a loopback interface the kernel may be freeing the namespaces of the test before, and lets
        # nobody read meanwhile.
        namespace.links.tables() if namespace.links.made or namespace.programs.view is not None else None,
        notes,
        dict(namespace.settings.written),
        processes,
        listening_sockets(namespace) if processes else None,
        read_ruleset(namespace) if namespace.programs.view is not None or namespace.packet_rules.given else "",
    )


def listening_sockets(namespace: Namespace) -> tuple[str, ...]:
    """The sockets that listen, as text."""
    return tuple(map(str, listening.listening(namespace.programs.network, "tcp", "udp")))


def read_ruleset(namespace: Namespace) -> str:
    """The nft ruleset as text; nft is not asked where there never was a rule."""
    return namespace.ruleset() if namespace.packet_rules.any_ever() else ""

"""What a lab was when set-up had ended: remembered for every test, so cheaply, and looked at only where one fails.

Only what may be there is asked of the kernel: a namespace that has been given nothing but its loopback interface costs
nothing. Processes and neighbours tell by their own clocks whether they are newer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_netns.errors import show_argv
from pytest_netns.explaining import networks
from pytest_netns.explaining.state import NamespaceState, changes
from pytest_netns.kernel import nftables, sockets

if TYPE_CHECKING:
    from pytest_netns.lab import Lab
    from pytest_netns.namespace import Namespace
    from pytest_netns.process import Process

FORWARDING = "net.ipv4.ip_forward"


@dataclass(frozen=True)
class Moment:
    """A namespace when set-up had ended, undecoded.

    Attributes:
        tables: interfaces, addresses and routes; None where it had nothing but its loopback interface.
        nat: masquerades and port forwards.
        settings: the sysctls that had been written.
        processes: the programs that ran.
        listening: the sockets that listened; None where nobody asked, since no program ran.
        ruleset: nft's, as text.
    """

    tables: networks.Tables | None = None
    nat: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    processes: tuple[Process, ...] = ()
    listening: tuple[str, ...] | None = None
    ruleset: str = ""


@dataclass(frozen=True)
class Snapshot:
    """A lab when set-up had ended.

    Attributes:
        taken: seconds since the machine was started.
        namespaces: by name.
    """

    taken: float
    namespaces: Mapping[str, Moment]


def snapshot(lab: Lab) -> Snapshot:
    """Remember a lab as it is now: about 0.1 ms for each namespace with interfaces, 0.3 ms for one with programs."""
    return Snapshot(clock(), {each.name: _moment(each) for each in lab})


def clock() -> float:
    """Seconds since the machine was started: what the kernel counts the age of processes by."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _moment(namespace: Namespace) -> Moment:
    processes = tuple(each for each in namespace._processes if each.poll() is None)
    return Moment(
        # Where there is only a loopback interface the kernel may be freeing the namespaces of the test before, and lets
        # nobody read meanwhile.
        networks.read_tables(namespace) if namespace._interfaces else None,
        networks.nat_notes(namespace),
        dict(namespace._settings),
        processes,
        listening(namespace) if processes else None,
        read_ruleset(namespace) if namespace._view is not None or namespace._given_rules else "",
    )


def listening(namespace: Namespace) -> tuple[str, ...]:
    """The sockets that listen, as text."""
    return tuple(map(str, sockets.listening(namespace._kernel, "tcp", "udp")))


def read_ruleset(namespace: Namespace) -> str:
    """The nft ruleset as text; nft is not asked where there never was a rule."""
    return namespace.ruleset() if nftables.has_rules(namespace._kernel) else ""


def differences(since: Snapshot, states: Sequence[NamespaceState]) -> Iterator[str]:
    """What is gone (``-``) and what is new (``+``), a line for each."""
    after = {state.name: state for state in states}
    before = {
        name: _state(name, moment, after.get(name, NamespaceState(name))) for name, moment in since.namespaces.items()
    }
    yield from changes(before, after)
    for name, moment in since.namespaces.items():
        for each in moment.processes:
            if each.poll() is not None:
                yield f"- {name}: process {show_argv(each.args)}, ended with exit status {each.returncode}"


def _state(name: str, moment: Moment, now: NamespaceState) -> NamespaceState:
    forwarding = ("forwarding",) if moment.settings.get(FORWARDING) == "1" else ()
    loopback = tuple(each for each in now.interfaces if each.name == "lo")
    network = NamespaceState(name, loopback) if moment.tables is None else networks.decode(name, moment.tables)
    return NamespaceState(
        name,
        network.interfaces,
        network.routes,
        listening=moment.listening or (),
        ruleset=moment.ruleset,
        notes=(*forwarding, *moment.nat),
        settings=show_settings(moment.settings),
        unknown=frozenset() if moment.listening is not None else frozenset({"listening"}),
    )


def show_settings(settings: Mapping[str, str]) -> tuple[str, ...]:
    """Sysctls but that of forwarding, which is a note: ``NAME = VALUE``."""
    return tuple(f"{name} = {value}" for name, value in settings.items() if name != FORWARDING)

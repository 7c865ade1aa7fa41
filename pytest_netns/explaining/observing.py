"""Observe a lab: collect everything a report shows from the kernel, in bounded time."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_netns.drawing.state import NamespaceState, NeighbourState
from pytest_netns.errors import UnavailableError, show_argv, show_status
from pytest_netns.explaining import changes, snapshot
from pytest_netns.explaining.state import LabState, ServiceState
from pytest_netns.kernel.netlink import rtneighbours
from pytest_netns.kernel.system import process_table, waiting
from pytest_netns.lab import states
from pytest_netns.lab.routing import Neighbour

if TYPE_CHECKING:
    from pytest_netns.kernel.netlink.rtneighbours import NeighbourInfo
    from pytest_netns.kernel.system.process_table import ProcessInfo
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.namespace import Namespace
    from pytest_netns.values.notes import Note

# What cannot be read in time is omitted. Seconds of processor time for up to 10 namespaces, proportionally more for
# more; on a busy machine the elapsed time is limited too.
TIME_LIMIT, TIME_LIMIT_WHOLE = 0.1, 1.0
_CLOCK_FACTOR = 10
_SHOWN_CONNECTIONS = 200

Found = TypeVar("Found")
Otherwise = TypeVar("Otherwise")


class _Deadline:
    """The end of the available time."""

    def __init__(self, seconds: float) -> None:
        self._processor = time.thread_time() + seconds
        self._clock = waiting.Deadline(seconds * _CLOCK_FACTOR)

    def is_over(self) -> bool:
        return time.thread_time() > self._processor or self._clock.is_over()


@dataclass
class _Look:
    """The observation of a namespace: what fails, or is omitted for lack of time, becomes a line in the report."""

    namespace: Namespace
    deadline: _Deadline
    state: NamespaceState
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def __call__(self, what: str, look: Callable[[Namespace], Found], otherwise: Otherwise) -> Found | Otherwise:
        if self.deadline.is_over():
            self.left_out.append(what)
            return otherwise
        try:
            return look(self.namespace)
        except UnavailableError:  # without nft there are no rules to show
            return otherwise
        except Exception as error:
            self.problems.append(f"{what}: {type(error).__name__}: {error}".splitlines()[0])
            return otherwise

    def note(self, **found: Any) -> None:
        """Add to the state."""
        self.state = replace(self.state, **found)

    def result(self) -> NamespaceState:
        problems = list(self.problems)
        if self.left_out:
            problems.append(f"{', '.join(self.left_out)}: omitted, the time limit was reached")
        return replace(self.state, problems=tuple(problems))


def observe(lab: Lab, before: snapshot.Snapshot | None = None, *, whole: bool = False) -> LabState:
    """Collect the state a report shows; what cannot be read, or not in time, becomes a line among the problems.

    Args:
        lab: if it is closed, only outputs and failures are available.
        before: an earlier snapshot, to show the changes since.
        whole: collect everything, with a larger time limit.
    """
    notes = {} if lab.closed else lab.notes.by_namespace()
    looks = [] if lab.closed else _look_at_all(lab, before, whole, notes)
    found = [each.result() for each in looks]
    changed: tuple[str, ...] = ()
    if before is not None and found:
        changed = tuple(changes.differences(before, found))
    failures = tuple(str(error) for error in lab.programs.records.failures)
    return LabState(tuple(found), changed, tuple(services(lab)), failures, states.texts(notes.get("", ()), ""))


def _look_at_all(
    lab: Lab, before: snapshot.Snapshot | None, whole: bool, notes: Mapping[str, tuple[Note, ...]]
) -> list[_Look]:
    """Observe the most important state of all namespaces first, so that the rest is omitted if time is short."""
    deadline = _Deadline((TIME_LIMIT_WHOLE if whole else TIME_LIMIT) * max(1, len(lab) / 10))
    looks = [_Look(each, deadline, NamespaceState(each.name)) for each in lab]
    for look in looks:
        nothing = replace(look.state, unknown=frozenset({"interfaces", "routes", "notes"}))
        own_notes = notes.get(look.state.name, ())
        look.state = look("interfaces", functools.partial(states.network, notes=own_notes), nothing)
    for look, running in zip(looks, _running(lab, looks, deadline), strict=True):
        _add_processes(look, running, before)
    for look in looks:
        _add_rules(look, before, whole=whole)
    return looks


def _running(lab: Lab, looks: list[_Look], deadline: _Deadline) -> list[list[ProcessInfo]]:
    """The processes of each namespace, except its init."""
    inodes = [each.programs.inode for each in lab]
    processes: dict[int, list[ProcessInfo]] = {}
    if looks:
        processes = looks[0]("processes", lambda _: process_table.by_namespace(inodes, deadline.is_over), processes)
    inits = {each.programs.view.init.pid for each in lab if each.programs.view is not None}
    return [[each for each in processes.get(inode, ()) if each.pid not in inits] for inode in inodes]


def _add_processes(look: _Look, running: list[ProcessInfo], before: snapshot.Snapshot | None) -> None:
    """Add processes, listening sockets, neighbours."""
    listening = look("listening sockets", snapshot.listening_sockets, None)
    entries = look("neighbours", _neighbours, ())
    names = {each.index: each.name for each in look.state.interfaces}
    neighbours = [Neighbour(each.address, each.mac, names.get(each.index, ""), each.state) for each in entries]
    begun: list[str] = []
    if before is not None:
        age = snapshot.clock() - before.taken
        begun += [f"process {each.command}" for each in running if each.started > before.taken]
        silent = [
            each
            for each, entry in zip(neighbours, entries, strict=True)
            if entry.is_silent and entry.age + rtneighbours.AGE_ERROR < age
        ]
        begun += [f"neighbour {each.address} dev {each.interface} does not answer" for each in silent]
    look.note(
        processes=tuple(map(str, running)),
        neighbours=tuple(
            NeighbourState(str(each), entry.is_silent) for each, entry in zip(neighbours, entries, strict=True)
        ),
        listening=listening or (),
        begun=tuple(begun),
        unknown=look.state.unknown | ({"listening"} if listening is None else set()),
    )


def _neighbours(namespace: Namespace) -> list[NeighbourInfo]:
    netlink = namespace.programs.network.netlink
    return netlink.dump(rtneighbours.dump_neighbours(), rtneighbours.parse_neighbour)


def _add_rules(look: _Look, before: snapshot.Snapshot | None, *, whole: bool) -> None:
    """Add settings and nft rules; tracked connections only if they are shown."""
    moment = None if before is None else before.namespaces.get(look.state.name)
    names = {**look.namespace.settings.written, **(moment.settings if moment is not None else {})}
    settings = look("settings", lambda each: {name: each.sysctl(name) for name in names}, None)
    ruleset = look("nft ruleset", snapshot.read_ruleset, None)
    tracked = look("tracked connections", _tracked, ()) if whole else ()
    missing = {kind for kind, found in (("settings", settings), ("rules", ruleset)) if found is None}
    look.note(
        settings=changes.show_settings(settings or {}),
        ruleset=ruleset or "",
        tracked=tracked,
        unknown=look.state.unknown | missing,
    )


def _tracked(namespace: Namespace) -> tuple[str, ...]:
    connections = namespace.packet_rules.ruleset.tracked_connections()
    more = len(connections) - _SHOWN_CONNECTIONS
    return (*map(str, connections[:_SHOWN_CONNECTIONS]), *([f"and {more} more"] if more > 0 else []))


def services(lab: Lab) -> Iterator[ServiceState]:
    """The lab's services, including ended ones, and the commands whose output is to be shown."""
    for kept in lab.programs.records.outputs:
        yield ServiceState(kept.command, kept.namespace, kept.text, "")
    for namespace in lab:
        for service in namespace.programs.services:
            command = show_argv(service.args)
            death = _show_death(command, namespace.name, service.returncode) if service.died else ""
            yield ServiceState(command, namespace.name, service.output, death)


def _show_death(command: str, namespace: str, status: int | None) -> str:
    return f"service {command!r} in namespace {namespace!r} ended during the test, with {show_status(status or 0)}"

"""Format the report of a failed test's lab; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pytest_netns.drawing import Sketch, draw
from pytest_netns.drawing.state import InterfaceState, NamespaceState
from pytest_netns.errors import showing
from pytest_netns.explaining.state import LabState, dropping
from pytest_netns.packets.dissect import Packet, digest

LINES = 15  # of a service's output, and the like, in the short form
LINES_WHOLE = 1000
_LOOKED_AT, _MOST_LOOKED_AT = (
    100,
    20_000,
)  # packets to inspect for each line, as a line may stand for many, and for all lines


class Recording(Protocol):
    """A test's packets, see `Capture`."""

    @property
    def kept(self) -> int:
        """The number of packets kept."""
        ...

    @property
    def dropped(self) -> int:
        """The number of packets not kept."""
        ...

    @property
    def problem(self) -> str:
        """Why packets are missing."""
        ...

    def last(self, most: int) -> Sequence[Packet]:
        """The last packets."""
        ...


def sections(state: LabState, *, whole: bool = False) -> list[tuple[str, str]]:
    """Format the sections: (title, text).

    Args:
        state: the lab.
        whole: show everything, instead of what most likely explains the failure.
    """
    chosen: list[tuple[str, str]] = []
    if state.namespaces:
        drawing = draw(Sketch.from_states(state.namespaces)).rstrip()
        chosen.append(("netns: network when the test failed", "\n".join([drawing, *state.notes])))
    if state.changes:
        chosen.append(("netns: changed since set-up", _cut(state.changes, LINES_WHOLE if whole else LINES)))
    inside = "\n".join(line for each in state.namespaces for line in _show(each, whole))
    if inside:
        hint = (
            ""
            if whole
            else "\n(-vv shows interfaces with counters, routes, neighbours, nft rules, tracked connections)"
        )
        chosen.append(("netns: inside the namespaces", inside + hint))
    for service in state.services:
        lines, total = showing.excerpt(service.output, LINES_WHOLE if whole else LINES)
        text = "\n".join([*lines, *([f"({total} lines in all)"] * (len(lines) < total))])
        chosen.append((f"netns: output of {service.command} in {service.namespace}", _join(text, service.death)))
    if state.failures:
        chosen.append(("netns: commands that failed", "\n".join(state.failures)))
    return [(showing.encodable(title), showing.encodable(text)) for title, text in chosen]


def _show(namespace: NamespaceState, whole: bool) -> Iterator[str]:
    """The lines of a namespace: its name, then a title and lines for each kind of state."""
    parts: dict[str, list[str]] = {}
    if whole:
        parts["interfaces"] = [_show_interface(each) for each in namespace.interfaces]
        parts["routes"] = [each.text for each in namespace.routes]
        parts["neighbours"] = [each.text for each in namespace.neighbours]
    else:
        parts["without carrier"] = [each.name for each in namespace.interfaces if each.is_up and not each.has_carrier]
        parts["neighbours that do not answer"] = [each.text for each in namespace.neighbours if each.is_silent]
        parts["nft rules that drop"] = dropping(namespace.ruleset)
    parts["listening"] = list(namespace.listening)
    parts["processes"] = list(namespace.processes)
    if whole:
        parts["nft ruleset"] = namespace.ruleset.splitlines()
        parts["tracked connections"] = list(namespace.tracked)
    parts["not known"] = list(namespace.problems)
    if any(parts.values()):
        yield f"[{namespace.name}]"
        for title, lines in parts.items():
            if lines:
                yield f"  {title}:"
                yield from (f"    {line}" for line in _cut(lines, LINES_WHOLE if whole else LINES).splitlines())


def _show_interface(interface: InterfaceState) -> str:
    state = "down" if not interface.is_up else "up" if interface.has_carrier else "up, no carrier"
    counters = (
        f"received {interface.received} packets ({interface.received_bytes} B), "
        f"sent {interface.sent} ({interface.sent_bytes} B), dropped {interface.dropped}"
    )
    peer = f"peer {interface.peer[1]} in {interface.peer[0]}" if interface.peer else ""
    plugged = f"in bridge {interface.bridge}" if interface.bridge else ""
    parts = [
        *map(str, interface.addresses),
        interface.mac,
        f"MTU {interface.mtu}",
        plugged,
        peer,
        *interface.notes,
        counters,
    ]
    return f"{interface.name} ({interface.kind}, {state}) " + ", ".join(filter(None, parts))


def _cut(lines: list[str] | tuple[str, ...], most: int) -> str:
    more = [f"... and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join([*lines[:most], *more])


def _join(*texts: str) -> str:
    return "\n".join(filter(None, texts))


def packet_section(recording: Recording, path: Path, *, whole: bool = False) -> tuple[str, str]:
    """The section about a test's packets: the last ones, and the file with all."""
    most = LINES_WHOLE if whole else LINES
    packets = recording.last(min(_LOOKED_AT * most, _MOST_LOOKED_AT))
    lines = digest(packets, most, before=recording.kept - len(packets))
    lost = f" ({recording.dropped} were not kept)" if recording.dropped else ""
    problem = [recording.problem] if recording.problem else []
    return "netns: packets", "\n".join([*lines, f"all {recording.kept} packets are in {path}{lost}", *problem])

"""Compare two states of a network, and the state of a lab for reports, as plain values; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_netns.drawing.state import NamespaceState
from pytest_netns.parts.namespace import FORWARDING

_OWN_TABLE = re.compile(r"\w+ netns([_-].*)?")  # shown as notes
_DROPS = re.compile(r"\b(drop|reject)\b")
_COMMENT = re.compile(r"(?<= \{) # .*")
_COUNTS = re.compile(r" packets \d+ bytes \d+| expires \w+")


def facts(state: NamespaceState) -> dict[str, list[str]]:
    """The facts of a namespace that a test may change, by kind."""
    interfaces: list[str] = []
    for interface in state.interfaces:
        plugged = f" in bridge {interface.bridge}" if interface.bridge else ""
        interfaces.append(f"interface {interface.name}{plugged}, MTU {interface.mtu}")
        interfaces.append(f"{interface.name} is {'up' if interface.is_up else 'down'}")
        # The kernel adds link-local ones by itself, shortly after an interface has come up.
        own = [address for address in interface.addresses if not address.is_link_local]
        interfaces += [f"{interface.name} has {address}" for address in own]
        interfaces += [f"{interface.name} {note}" for note in interface.notes]
    facts = {
        "interfaces": interfaces,
        "routes": [f"route {route.text}" for route in state.routes if not route.is_link_local],
        "notes": [FORWARDING] * state.forwarding + list(state.notes),
        "settings": list(state.settings),
        "rules": [f"nft {rule}" for rule in rules(state.ruleset)],
        "listening": [f"listening {each}" for each in state.listening],
    }
    return {kind: found for kind, found in facts.items() if kind not in state.unknown}


def dropping(ruleset: str) -> list[str]:
    """The lines of an nft ruleset that may drop packets."""
    return [rule for rule in rules(ruleset) if _DROPS.search(rule)]


def rules(ruleset: str) -> list[str]:
    """The lines of an nft ruleset, each with its table and chain and without counts; our own tables are omitted, as they are shown as notes."""
    lines: list[str] = []
    place: list[str] = []
    for line in map(str.strip, ruleset.splitlines()):
        if line == "}":
            place.pop()
        elif (line := _COMMENT.sub("", line)).endswith(" {"):
            place.append(line.removesuffix(" {").removeprefix("table ").removeprefix("chain "))
            if not _OWN_TABLE.fullmatch(place[0]):
                lines.append(" ".join(place))
        elif line and place and not _OWN_TABLE.fullmatch(place[0]):
            lines.append(f"{' '.join(place)}: {_COUNTS.sub('', line)}")
    return lines


def changes(before: Mapping[str, NamespaceState], after: Mapping[str, NamespaceState]) -> list[str]:
    """The differences of two states: a line for each fact that is gone (``-``) or new (``+``)."""
    lines = [f"- {name}: the namespace" for name in before if name not in after]
    for name, now in after.items():
        if name not in before:  # everything in it is new: the drawing shows it
            lines.append(f"+ {name}: the namespace")
            continue
        new, old = facts(now), facts(before[name])
        kinds = [kind for kind in new if kind in old]
        lines += [f"- {name}: {fact}" for kind in kinds for fact in old[kind] if fact not in new[kind]]
        lines += [f"+ {name}: {fact}" for kind in kinds for fact in new[kind] if fact not in old[kind]]
        lines += [f"+ {name}: {fact}" for fact in now.begun]
    return lines


@dataclass(frozen=True)
class ServiceState:
    """A service: its command, the namespace it is in, what it wrote, and how it ended (empty if it runs)."""

    command: str
    namespace: str
    output: str
    death: str = ""


@dataclass(frozen=True)
class LabState:
    """The state of a lab.

    Attributes:
        changes: the changes since the end of set-up.
        failures: the failed commands, with their output.
        notes: notes about the network as a whole.
    """

    namespaces: tuple[NamespaceState, ...] = ()
    changes: tuple[str, ...] = ()
    services: tuple[ServiceState, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

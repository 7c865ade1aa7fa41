"""What a lab looked like at one moment, as plain values, and how two moments differ."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from pytest_netns.parts.gateway.nftext import TABLE
from pytest_netns.parts.impairment import TABLE as IMPAIRED
from pytest_netns.parts.namespace import FORWARDING
from pytest_netns.values import IPInterface

OWN_TABLE = f"inet {TABLE}"
_DROPS = re.compile(r"\b(drop|reject)\b")
_COMMENT = re.compile(r"(?<= \{) # .*")
_COUNTS = re.compile(r" packets \d+ bytes \d+| expires \w+")


@dataclass(frozen=True)
class InterfaceState:
    """An interface at one moment.

    Attributes:
        kind: ``"veth"``, ``"bridge"``, ``"loopback"`` ...
        addresses: with prefix length.
        bridge: the bridge it is plugged into, in the same namespace; empty for none.
        has_carrier: whether it can carry packets: it is up, and so is its peer.
        peer: namespace and name of the other end, where it is known.
        notes: what components and faults say of it, such as ``"delay 20 ms"``, and what the kernel does to its packets.
    """

    name: str
    kind: str
    mac: str
    mtu: int
    is_up: bool
    has_carrier: bool
    addresses: tuple[IPInterface, ...] = ()
    bridge: str = ""
    peer: tuple[str, str] | None = None
    received: int = 0
    sent: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    dropped: int = 0
    index: int = 0
    notes: tuple[str, ...] = ()


class RouteState(NamedTuple):
    """A route at one moment.

    Attributes:
        text: as ip-route(8) shows it.
        is_drawn: whether a drawing has to say it, since the interfaces' addresses do not: it leads to a gateway, or nowhere.
        is_link_local: whether the kernel has made it by itself, for link-local addresses.
    """

    text: str
    is_drawn: bool = False
    is_link_local: bool = False


class NeighbourState(NamedTuple):
    """An entry of the neighbour table at one moment.

    Attributes:
        text: as ip-neighbour(8) shows it.
        is_silent: whether it has been asked for and does not answer.
    """

    text: str
    is_silent: bool = False


@dataclass(frozen=True)
class NamespaceState:
    """A namespace at one moment; what is text is shown as it is.

    Attributes:
        policy: routing rules that not every namespace has.
        forwarding: whether it is a router.
        notes: what components and faults say of it: masquerades, port forwards, what is cut.
        settings: the sysctls that have been written, with their values.
        begun: what has begun since set-up: processes, neighbours that do not answer.
        unknown: the kinds of facts that were not asked for.
        problems: what could not be found out, and why.
    """

    name: str
    interfaces: tuple[InterfaceState, ...] = ()
    routes: tuple[RouteState, ...] = ()
    policy: tuple[str, ...] = ()
    neighbours: tuple[NeighbourState, ...] = ()
    listening: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    ruleset: str = ""
    tracked: tuple[str, ...] = ()
    forwarding: bool = False
    notes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    unknown: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()

    def facts(self) -> dict[str, list[str]]:
        """What set-up decides and a test may change, by kind."""
        interfaces = []
        for interface in self.interfaces:
            plugged = f" in bridge {interface.bridge}" if interface.bridge else ""
            interfaces.append(f"interface {interface.name}{plugged}, MTU {interface.mtu}")
            interfaces.append(f"{interface.name} is {'up' if interface.is_up else 'down'}")
            # The kernel adds link-local ones by itself, a moment after an interface has come up.
            own = [address for address in interface.addresses if not address.is_link_local]
            interfaces += [f"{interface.name} has {address}" for address in own]
            interfaces += [f"{interface.name} {note}" for note in interface.notes]
        facts = {
            "interfaces": interfaces,
            "routes": [f"route {route.text}" for route in self.routes if not route.is_link_local],
            "notes": [FORWARDING] * self.forwarding + list(self.notes),
            "settings": list(self.settings),
            "rules": [f"nft {rule}" for rule in rules(self.ruleset)],
            "listening": [f"listening {each}" for each in self.listening],
        }
        return {kind: found for kind, found in facts.items() if kind not in self.unknown}


def dropping(ruleset: str) -> list[str]:
    """Of the lines of an nft ruleset those that may drop packets."""
    return [rule for rule in rules(ruleset) if _DROPS.search(rule)]


def rules(ruleset: str) -> list[str]:
    """The lines of an nft ruleset, each with its table and chain and without counts; our own table is told as notes."""
    found = []
    place: list[str] = []
    for line in map(str.strip, ruleset.splitlines()):
        if line == "}":
            place.pop()
        elif (line := _COMMENT.sub("", line)).endswith(" {"):
            place.append(line.removesuffix(" {").removeprefix("table ").removeprefix("chain "))
            if place[0] != OWN_TABLE:
                found.append(" ".join(place))
        elif line and place and place[0] != OWN_TABLE:
            found.append(f"{' '.join(place)}: {_COUNTS.sub('', line)}")
    return [rule for rule in found if not rule.startswith(f"netdev {IMPAIRED}")]


def changes(before: Mapping[str, NamespaceState], after: Mapping[str, NamespaceState]) -> list[str]:
    """How the second moment differs from the first: a line for each fact that is gone (``-``) or new (``+``)."""
    lines = [f"- {name}: the namespace" for name in before if name not in after]
    for name, now in after.items():
        if name not in before:  # all it holds is new: that is what the drawing shows
            lines.append(f"+ {name}: the namespace")
            continue
        new, old = now.facts(), before[name].facts()
        kinds = [kind for kind in new if kind in old]
        lines += [f"- {name}: {fact}" for kind in kinds for fact in old[kind] if fact not in new[kind]]
        lines += [f"+ {name}: {fact}" for kind in kinds for fact in new[kind] if fact not in old[kind]]
        lines += [f"+ {name}: {fact}" for fact in now.begun]
    return lines


@dataclass(frozen=True)
class ServiceState:
    """A service: its command, the namespace it is in, what it wrote, and how it ended (empty where it runs)."""

    command: str
    namespace: str
    output: str
    death: str = ""


@dataclass(frozen=True)
class LabState:
    """A lab at one moment.

    Attributes:
        changes: what is different from when set-up had ended.
        failures: the commands that failed, with what they wrote.
        notes: what components and faults say of the network as a whole.
    """

    namespaces: tuple[NamespaceState, ...] = ()
    changes: tuple[str, ...] = ()
    services: tuple[ServiceState, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

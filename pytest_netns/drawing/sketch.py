"""The contents of a drawing: a plain description of a network, from a topology or a live lab."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from pytest_netns.parts.namespace import FORWARDING

if TYPE_CHECKING:
    from pytest_netns.drawing.state import NamespaceState
    from pytest_netns.topology import Topology
    from pytest_netns.values.notes import Note

USUAL_MTU = 1500  # Ethernet's, not shown in drawings
_TRIED = 20  # the number of namespaces of an island to try as its first
# Kinds that are not shown in drawings: veth ends, and interfaces of every namespace.
_PLAIN_KINDS = ("", "veth", "loopback")

# The namespace and name of an interface.
Place: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class SketchInterface:
    """An interface in a drawing.

    Attributes:
        name: its name.
        addresses: its addresses with prefix length.
        kind: the kernel's name for its kind: ``"bridge"``, ``"vlan"`` ...
        bridge: the bridge, bond or VRF in the same namespace that it is a member of; None for none.
        is_up: whether it is up.
        notes: the notes of its part, of components and of faults.
    """

    name: str
    addresses: tuple[str, ...] = ()
    kind: str = ""
    bridge: str | None = None
    is_up: bool = True
    notes: tuple[str, ...] = ()

    @property
    def is_bridge(self) -> bool:
        """Whether it is a bridge."""
        return self.kind == "bridge"

    @property
    def text(self) -> str:
        """Name, addresses, kind, notes and state on one line."""
        kind = [self.kind] * (self.kind not in _PLAIN_KINDS)
        return "  ".join([self.name, *self.addresses, *kind, *self.notes, *["down"] * (not self.is_up)])


@dataclass(frozen=True)
class SketchNamespace:
    """A namespace in a drawing.

    Attributes:
        name: its name.
        interfaces: its interfaces.
        notes: further lines: forwarding, routes, masquerades, port forwards.
    """

    name: str
    interfaces: tuple[SketchInterface, ...] = ()
    notes: tuple[str, ...] = ()

    # Cached properties write to __dict__, bypassing the frozen __setattr__; they are not compared.
    @cached_property
    def rows(self) -> list[SketchInterface]:
        """The interfaces, each bridge (bond, VRF) followed by its members."""
        ports: dict[str | None, list[SketchInterface]] = {each.name: [] for each in self.interfaces}
        top: list[SketchInterface] = []
        for each in self.interfaces:
            ports.get(each.bridge, top).append(each)
        rows: list[SketchInterface] = []
        waiting = top[::-1]
        while waiting:  # a bond may itself be a bridge port
            rows.append(waiting.pop())
            waiting += ports[rows[-1].name][::-1]
        return rows

    @cached_property
    def row_numbers(self) -> Mapping[str, int]:
        """The row number of each interface."""
        return {each.name: number for number, each in enumerate(self.rows)}


@dataclass(frozen=True)
class Sketch:
    """The contents of a drawing.

    Attributes:
        namespaces: the namespaces.
        connections: pairs of connected interfaces, each given by its namespace and name.
    """

    namespaces: tuple[SketchNamespace, ...] = ()
    connections: tuple[tuple[Place, Place], ...] = ()

    @classmethod
    def from_topology(cls, topology: Topology) -> Sketch:
        """The sketch of a topology, as if built."""
        plan = topology.assigned()
        notes = _by_place(note for part in plan.parts() for note in part.notes())
        interfaces: dict[str, list[SketchInterface]] = {name: [] for name in topology.namespace_names}
        connections: dict[Place, Place] = {}
        for each in topology.interfaces:
            addresses = tuple(map(str, each.addresses))
            here = (each.namespace, each.name)
            kind = each.kind or ("bridge" if each.peer is None else "veth")
            interfaces[each.namespace].append(
                SketchInterface(
                    each.name, addresses, kind, each.bridge, notes=(*_mtu_note(each.mtu), *notes.get(here, ()))
                )
            )
            if each.peer is not None and each.peer not in connections:
                connections[here] = each.peer
        namespaces = (
            SketchNamespace(name, tuple(held), tuple(notes.get((name, ""), ()))) for name, held in interfaces.items()
        )
        return cls(tuple(namespaces), tuple(connections.items()))

    @classmethod
    def from_states(cls, states: Iterable[NamespaceState]) -> Sketch:
        """The sketch of a live network; loopback interfaces are left out unless something is wrong with them."""
        namespaces: list[SketchNamespace] = []
        connections: dict[Place, Place] = {}
        for state in states:
            interfaces: list[SketchInterface] = []
            for each in state.interfaces:
                if each.kind == "loopback" and each.is_up:
                    continue
                # Every interface has a link-local address, so it is not shown.
                addresses = tuple(str(address) for address in each.addresses if not address.is_link_local)
                notes = (*_mtu_note(each.mtu), *each.notes)
                interfaces.append(
                    SketchInterface(each.name, addresses, each.kind, each.bridge or None, each.is_up, notes)
                )
                here = (state.name, each.name)
                if each.peer is not None and each.peer not in connections:
                    connections[here] = each.peer
            routes = (route.text for route in state.routes if route.is_drawn)
            rules = (f"rule {rule}" for rule in state.policy)
            notes = (*[FORWARDING] * state.forwarding, *routes, *rules, *state.notes)
            namespaces.append(SketchNamespace(state.name, tuple(interfaces), notes))
        there = {(each.name, held.name) for each in namespaces for held in each.interfaces}
        joined = ((a, b) for a, b in connections.items() if b in there)
        return cls(tuple(namespaces), tuple(joined))

    @cached_property
    def peers(self) -> Mapping[Place, Place]:
        """The other end of each connected interface."""
        return {**dict(self.connections), **{b: a for a, b in self.connections}}

    def named(self, name: str) -> SketchNamespace:
        """The namespace with a name."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, SketchNamespace]:
        return {each.name: each for each in self.namespaces}

    def neighbours(self, name: str) -> list[str]:
        """The namespaces connected to a namespace, in the order of its interfaces."""
        return self._neighbours[name]

    @cached_property
    def _neighbours(self) -> Mapping[str, list[str]]:
        return {each.name: self._find_neighbours(each.name) for each in self.namespaces}

    def _find_neighbours(self, name: str) -> list[str]:
        ends = (self.peers.get((name, each.name)) for each in self.named(name).rows)
        return [end[0] for end in ends if end is not None]

    def islands(self) -> list[list[list[str]]]:
        """The namespaces as connected islands, each as layers by the distance from its first namespace.

        The first namespace is as far out as possible, but never a bridge port: these come after their bridge.
        """
        islands: list[list[list[str]]] = []
        seen: set[str] = set()
        plugged = self._plugged()
        for namespace in self.namespaces:
            if namespace.name not in seen:
                members = {name for layer in self._layers(namespace.name) for name in layer}
                inside = [each.name for each in self.namespaces if each.name in members]
                starts = [name for name in inside if name not in plugged] or inside
                if len(starts) > _TRIED:  # try only those far from the farthest
                    starts = self._farthest(self._farthest(starts, set(starts))[:1], set(starts))[:_TRIED]
                islands.append(max((self._layers(name) for name in starts), key=len))
                seen.update(members)
        return islands

    def _plugged(self) -> set[str]:
        ports = {
            (namespace.name, each.name)
            for namespace in self.namespaces
            for each in namespace.interfaces
            if each.bridge is not None
        }
        return {other[0] for place, other in self.peers.items() if place in ports and other[0] != place[0]}

    def _farthest(self, starts: list[str], among: set[str]) -> list[str]:
        """Those of some namespaces that are farthest from the first start, in the sketch's order."""
        far = [[name for name in layer if name in among] for layer in self._layers(starts[0])]
        last = set(next(layer for layer in reversed(far) if layer))
        return [each.name for each in self.namespaces if each.name in last]

    def _layers(self, start: str) -> list[list[str]]:
        distance = {start: 0}
        queue = deque([start])
        while queue:
            name = queue.popleft()
            for neighbour in self.neighbours(name):
                if neighbour not in distance:
                    distance[neighbour] = distance[name] + 1
                    queue.append(neighbour)
        layers: list[list[str]] = [[] for _ in range(max(distance.values()) + 1)]
        for name, far in distance.items():
            layers[far].append(name)
        return layers


def _mtu_note(mtu: int | None) -> list[str]:
    return [f"MTU {mtu}"] if mtu not in (None, USUAL_MTU) else []


def _by_place(notes: Iterable[Note]) -> dict[Place, list[str]]:
    texts: dict[Place, list[str]] = {}
    for note in notes:
        texts.setdefault((note.namespace, note.interface), []).append(note.text)
    return texts

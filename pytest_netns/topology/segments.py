"""The parts of a topology that join namespaces: bridges with their ports, and veth pairs; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pytest_netns.parts.links.bridge import BridgeSpec
from pytest_netns.parts.links.ends import InterfaceSpec
from pytest_netns.parts.links.other import LinkSpec
from pytest_netns.parts.links.veth import VethSpec
from pytest_netns.parts.namespace import NamespaceSpec
from pytest_netns.topology.tables import Tables
from pytest_netns.values import NAME_PATTERN

P = TypeVar("P")


@dataclass(frozen=True)
class Segment:
    """A bridge or veth pair without its invalid parts.

    Attributes:
        path: its key path.
        spec: the bridge or pair.
        ends: the key path and value of its ports or ends.
    """

    path: str
    spec: BridgeSpec | VethSpec
    ends: Sequence[tuple[str, InterfaceSpec]]


def segments_of(tables: Tables, broken: frozenset[str] = frozenset()) -> list[Segment]:
    """The bridges and veth pairs of a topology.

    Args:
        tables: the topology's parts.
        broken: key paths of parts with mistakes, which are left out.
    """
    bridges = [
        Segment(path, each, sound(each.ports, f"{path}.ports", broken))
        for path, each in sound(tables.bridges, "bridges", broken)
        if isinstance(each, BridgeSpec)
    ]
    veths = [
        Segment(path, each, sound(each.ends, f"{path}.ends", broken))
        for path, each in sound(tables.veths, "veths", broken)
        if isinstance(each, VethSpec)
    ]
    return bridges + veths


def links_of(tables: Tables, broken: frozenset[str] = frozenset()) -> list[tuple[str, LinkSpec]]:
    """The valid interfaces of other kinds, with their key paths."""
    return [(path, each) for path, each in sound(tables.links, "interfaces", broken) if isinstance(each, LinkSpec)]


def sound(parts: Sequence[P], path: str, broken: frozenset[str]) -> list[tuple[str, P]]:
    """The valid parts of one list, with their key paths."""
    numbered = [(f"{path}[{number}]", part) for number, part in enumerate(parts)]
    return [(each, part) for each, part in numbered if each not in broken]


def names_of(tables: Tables) -> list[str]:
    """The namespaces of a topology: the declared ones, then those mentioned by bridges and veth pairs."""
    names = [each.name for each in tables.namespaces if isinstance(each, NamespaceSpec)]
    for segment in segments_of(tables):
        if isinstance(segment.spec, BridgeSpec):
            names.append(segment.spec.namespace)
        names += [end.namespace for _, end in segment.ends if isinstance(end, InterfaceSpec)]
    names += [link.namespace for _, link in links_of(tables)]
    return [
        name for name in dict.fromkeys(each for each in names if isinstance(each, str)) if NAME_PATTERN.fullmatch(name)
    ]

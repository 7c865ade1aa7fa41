"""Validate a topology: collect all mistakes, each with its key path and the valid values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.parts.keys import Key, Part, is_sound
from pytest_netns.parts.links.veth import VethSpec
from pytest_netns.topology.gateways import check_firewalls, check_nats, check_translated_addresses
from pytest_netns.topology.plan import make_plan
from pytest_netns.topology.routing import check_gateways, check_masquerades, check_port_forwards, check_routes
from pytest_netns.topology.rules import (
    Checked,
    Problem,
    check_addresses,
    check_links,
    check_mtus,
    check_names,
    check_namespaces,
    check_overlaps,
    check_references,
)
from pytest_netns.topology.segments import links_of, names_of, segments_of
from pytest_netns.topology.tables import Tables
from pytest_netns.values import NAME_PATTERN


def find_problems(tables: Tables) -> list[str]:
    """All mistakes, as ``KEY PATH: MISTAKE``; empty for a valid topology."""
    faults = list(_wrong_values(tables, ""))
    broken = {owner for owner, _ in faults}
    for number, veth in enumerate(tables.veths):
        path = f"veths[{number}]"
        ends = veth.ends if isinstance(veth, VethSpec) else ()
        if isinstance(veth, VethSpec) and len(ends) != 2:
            faults.append((path, (f"{path}.ends", f"cannot use {len(ends)} ends: a veth pair has 2")))
        if len(ends) != 2 or any(f"{path}.ends[{end}]" in broken for end in range(2)):
            broken.add(path)
    checked = _checked(tables, frozenset(broken))
    problems = [problem for _, problem in faults] + checked.plan.problems
    for check in (
        check_namespaces,
        check_references,
        check_names,
        check_links,
        check_addresses,
        check_overlaps,
        check_mtus,
        check_gateways,
        check_routes,
        check_masquerades,
        check_port_forwards,
        check_nats,
        check_translated_addresses,
        check_firewalls,
    ):
        problems += check(checked)
    return [f"{path}: {text}" if path else text for path, text in problems]


def _checked(tables: Tables, broken: frozenset[str]) -> Checked:
    segments = segments_of(tables, broken)
    plan = make_plan(segments, links_of(tables, broken))
    known = list(dict.fromkeys([*names_of(tables), "host"]))
    at_fault = broken | {path.rpartition(".")[0] for path, _ in plan.problems}
    doubtful: set[Any] = set()
    for table, ends in (("bridges", "ports"), ("veths", "ends")):
        for number, spec in enumerate(getattr(tables, table)):
            path = f"{table}[{number}]"
            for end_number, end in enumerate(getattr(spec, ends, ())):
                if path in at_fault or f"{path}.{ends}[{end_number}]" in at_fault:
                    doubtful.add(_valid_name(getattr(end, "namespace", None)))
            if path in at_fault:
                doubtful.add(_valid_name(getattr(spec, "namespace", "host")))
    for number, link in enumerate(tables.links):
        if f"interfaces[{number}]" in at_fault:
            doubtful.add(_valid_name(getattr(link, "namespace", None)))
    # An invalid namespace name may have meant any namespace.
    return Checked(tables, broken, segments, plan, known, frozenset(known if None in doubtful else doubtful))


def _valid_name(value: object) -> str | None:
    return value if isinstance(value, str) and NAME_PATTERN.fullmatch(value) else None


def _wrong_values(part: Part, path: str) -> Iterator[tuple[str, Problem]]:
    """Each invalid value, with the key path of the part that it makes invalid."""
    if is_sound(part):
        return
    for name, key in part.keys().items():
        where = f"{path}.{key.name}" if path else key.name
        held = getattr(part, name)
        for number, value in enumerate(held if key.many else [held]):
            at = f"{where}[{number}]" if key.part or (key.many and len(held) > 1) else where
            if key.part is None:
                yield from ((path, (at, text)) for text in _mistakes_in(key, value))
            elif isinstance(value, key.part):
                yield from _wrong_values(value, at)
            else:
                table = f"write a {key.part.__name__}, in TOML a table {{ ... }}"
                yield at, (at, f"cannot use {value!r} here: {table}")


def _mistakes_in(key: Key, value: object) -> tuple[str, ...]:
    if key.kind is None or (value is None and key.default is None):
        return ()
    if value is None:
        return (f"is missing; it is required, for instance {key.kind.schema['examples'][0]!r}",)
    try:
        key.kind.parse(value)
    except InvalidTopologyError as error:
        return error.problems
    return ()

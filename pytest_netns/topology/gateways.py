"""Checks of a topology's NAT and firewalls."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.parts.gateway import firewall, nat, snat
from pytest_netns.parts.gateway.nat import NatSpec
from pytest_netns.parts.gateway.snat import OneToOneSpec
from pytest_netns.topology.rules import Checked, Problem
from pytest_netns.values import parse_choice


def check_nats(checked: Checked) -> Iterator[Problem]:
    """The translating namespace has the interface; no network is translated twice on output."""
    seen: dict[tuple[str, str], list[tuple[str, NatSpec]]] = {}
    for path, spec in checked.sound("nats"):
        yield from ((f"{path}.{key}", mistake) for key, mistake in nat.mistakes(spec))
        yield from _devices(checked, path, spec.namespace, out=(spec.out,))
        others = seen.setdefault((spec.namespace, spec.out), [])
        for other_path, other in others:
            if other.source.overlaps(spec.source):
                yield f"{path}.source", f"cannot translate {spec.source} twice: {other_path} translates {other.source}"
                break
        others.append((path, spec))


def check_translated_addresses(checked: Checked) -> Iterator[Problem]:
    """The addresses of SNAT and one-to-one NAT match, and their interfaces exist."""
    for table in ("snats", "one_to_one"):
        for path, spec in checked.sound(table):
            yield from ((f"{path}.{key}", mistake) for key, mistake in snat.mistakes(spec))
            yield from _devices(checked, path, spec.namespace, out=() if spec.out is None else (spec.out,))
            if isinstance(spec, OneToOneSpec) and isinstance(spec.inner, str):
                yield from _known(checked, f"{path}.inner", spec.inner)


def check_firewalls(checked: Checked) -> Iterator[Problem]:
    """The rules of firewalls match their hooks; interfaces and namespaces exist."""
    for path, spec in checked.sound("firewalls"):
        for number, rule in enumerate(spec.rules):
            at = f"{path}.rules[{number}]"
            if at in checked.broken:
                continue
            yield from ((f"{at}.{key}", mistake) for key, mistake in firewall.mistakes(rule, spec.hook))
            yield from _devices(checked, at, spec.namespace, incoming=rule.incoming, outgoing=rule.outgoing)
            for key, places in (("source", rule.source), ("destination", rule.destination)):
                for place in places:
                    if isinstance(place, str):
                        yield from _known(checked, f"{at}.{key}", place)


def _devices(checked: Checked, path: str, namespace: str, **devices: tuple[str, ...]) -> Iterator[Problem]:
    if checked.certain(namespace):
        there = [*(each.name for each in checked.plan.of(namespace)), "lo"]
        for key, names in devices.items():
            for name in names:
                try:
                    parse_choice(name, there, f"interface of {namespace!r}")
                except InvalidTopologyError as error:
                    yield f"{path}.{key}", str(error)


def _known(checked: Checked, path: str, name: str) -> Iterator[Problem]:
    try:
        parse_choice(name, checked.known, "namespace")
    except InvalidTopologyError as error:
        yield path, str(error)

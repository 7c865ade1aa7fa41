"""Checks of a topology as a whole: names, references, addresses and networks that must not conflict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.parts.keys import as_many
from pytest_netns.parts.links.bridge import BridgeSpec
from pytest_netns.parts.links.ends import InterfaceSpec
from pytest_netns.topology.plan import Plan
from pytest_netns.topology.segments import Segment, links_of, sound
from pytest_netns.topology.tables import Tables
from pytest_netns.values import IPAddress, IPInterface, IPNetwork, Target, parse_choice

# The key path of a value, and its mistake.
Problem: TypeAlias = tuple[str, str]

MIN_IPV6_MTU = 1280


@dataclass(frozen=True)
class Checked:
    """A topology whose single values have been checked, for the checks as a whole.

    Attributes:
        tables: the topology's parts.
        broken: key paths of parts with an invalid value; they are left out.
        segments: the valid bridges and veth pairs.
        plan: their interfaces.
        known: the names of all namespaces.
        doubtful: the namespaces with an interface left out, which may cause further mistakes.
    """

    tables: Tables
    broken: frozenset[str]
    segments: list[Segment]
    plan: Plan
    known: list[str]
    doubtful: frozenset[str]

    def sound(self, table: str) -> list[tuple[str, Any]]:
        """The valid parts of one list, with their key paths."""
        return sound(getattr(self.tables, table), table, self.broken)

    def certain(self, namespace: str) -> bool:
        """Whether all interfaces of the namespace are known."""
        return namespace in self.known and namespace not in self.doubtful


def check_namespaces(checked: Checked) -> Iterator[Problem]:
    """No namespace name or host name is used twice."""
    names: dict[str, str] = {}
    hostnames = dict.fromkeys(checked.known, "a namespace")
    for path, namespace in checked.sound("namespaces"):
        if namespace.name in names:
            yield f"{path}.name", f"cannot use {namespace.name!r} twice: {names[namespace.name]} has that name"
        names[namespace.name] = path
        for hostname in namespace.hostnames:
            if hostname in hostnames:
                yield (
                    f"{path}.hostnames",
                    f"cannot use {hostname!r} as host name: it already resolves to {hostnames[hostname]}",
                )
            hostnames[hostname] = path


def check_references(checked: Checked) -> Iterator[Problem]:
    """Every namespace referred to exists."""
    for table, keys in (
        ("routes", ("namespace", "gateways")),
        ("masquerades", ("namespace",)),
        ("port_forwards", ("namespace", "to")),
        ("nats", ("namespace",)),
        ("snats", ("namespace",)),
        ("one_to_one", ("namespace",)),
        ("firewalls", ("namespace",)),
    ):
        for path, part in checked.sound(table):
            for key in keys:
                for value in as_many(getattr(part, key)):
                    name = value.host if isinstance(value, Target) else value
                    if isinstance(name, str) and name not in checked.known:
                        try:
                            parse_choice(name, checked.known, "namespace")
                        except InvalidTopologyError as error:
                            yield f"{path}.{part.keys()[key].name}", str(error)


def check_names(checked: Checked) -> Iterator[Problem]:
    """No two interfaces of a namespace share a name."""
    taken: dict[tuple[str, str], str] = {}
    for each in checked.plan.interfaces:
        here = (each.namespace, each.name)
        if here in taken:
            yield (
                f"{each.path}.name",
                f"cannot use {each.name!r} twice in namespace {each.namespace!r}: {taken[here]} has that name",
            )
        taken.setdefault(here, each.path)


def check_links(checked: Checked) -> Iterator[Problem]:
    """An interface of another kind has its required options, and its lower interface and master exist."""
    for path, link in links_of(checked.tables, checked.broken):
        for key, problem in link.problems():
            yield f"{path}.{key}" if key else path, problem
        for key, name in (("link", link.link), ("master", link.master)):
            if name is not None and checked.certain(link.namespace):
                others = [each.name for each in checked.plan.of(link.namespace) if each.path != path]
                try:
                    parse_choice(name, [*others, "lo"], f"interface of {link.namespace!r}")
                except InvalidTopologyError as error:
                    yield f"{path}.{key}", str(error)


def _given(segment: Segment) -> Iterator[tuple[str, IPInterface]]:
    """The key path and value of every given address on a segment."""
    holders: list[tuple[str, BridgeSpec | InterfaceSpec]] = list(segment.ends)
    if isinstance(segment.spec, BridgeSpec):
        holders.insert(0, (segment.path, segment.spec))
    for path, holder in holders:
        for address in holder.addresses:
            yield f"{path}.address", address


def check_addresses(checked: Checked) -> Iterator[Problem]:
    """No address is used twice on a segment."""
    for segment in checked.segments:
        first: dict[IPAddress, str] = {}
        for path, address in _given(segment):
            if address.ip in first:
                yield path, f"cannot use '{address.ip}' twice: it is the address at {first[address.ip]}"
            first.setdefault(address.ip, path)


def check_overlaps(checked: Checked) -> Iterator[Problem]:
    """No two networks overlap, unless that is allowed."""
    if checked.tables.allow_overlap is True:
        return
    networks: dict[tuple[IPNetwork, str], str] = {}
    for segment in checked.segments:
        for key, subnet in (("subnet", segment.spec.subnet), ("subnet6", segment.spec.subnet6)):
            if subnet is not None:
                networks.setdefault((subnet, segment.path), f"{segment.path}.{key}")
        for path, address in _given(segment):
            # Single addresses, and the link-local network that every segment has, may overlap.
            if address.network.num_addresses > 1 and not address.ip.is_link_local:
                networks.setdefault((address.network, segment.path), path)
    written = {key: number for number, key in enumerate(networks)}
    outer: tuple[IPNetwork, str] | None = None
    # Networks are nested or disjoint, so in this order each overlaps the last disjoint one, or none.
    for each in sorted(networks, key=lambda key: (key[0].version, int(key[0].network_address), key[0].prefixlen)):
        if outer is None or not each[0].overlaps(outer[0]):
            outer = each
            continue
        first, second = sorted((each, outer), key=lambda key: written[key])
        yield (
            networks[second],
            f"cannot use '{second[0]}': it overlaps '{first[0]}' of {networks[first]}; use another network, or set allow_overlap",
        )


def check_mtus(checked: Checked) -> Iterator[Problem]:
    """IPv6 fits through every interface that has an IPv6 address."""
    for each in checked.plan.interfaces:
        if each.mtu is not None and each.mtu < MIN_IPV6_MTU and any(address.version == 6 for address in each.addresses):
            yield f"{each.path}.mtu", f"cannot use {each.mtu} as MTU: IPv6 needs at least {MIN_IPV6_MTU} bytes"

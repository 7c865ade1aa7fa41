"""Cuts: packets between namespaces, or of one, are dropped until healed; every interface keeps its carrier."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence

from pytest_netns.errors import InvalidTopologyError, NetnsError
from pytest_netns.faults import filters
from pytest_netns.faults.faults import Faults, Healing
from pytest_netns.faults.filters import Filter
from pytest_netns.faults.members import Member, look, look_at_all
from pytest_netns.kernel.nft import nftables
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.values.notes import Note

_COUNTER = re.compile(r"counter packets (\d+)")
_ISOLATED = "isolated"


class Cut(Healing):
    """An active cut, partition or isolation: healed by `heal`, at the end of its ``with`` block, or by ``lab.heal()``.

    It covers the interfaces and addresses that existed when it started. Across a router it recognizes namespaces by
    address; a NAT router of this lab drops by the original addresses. Behind two NAT routers in a row, neither knows both
    ends, and packets pass.

    Attributes:
        dropped: the number of packets it has dropped so far.
    """

    __slots__ = (
        "_description",
        "_dropped",
        "_ended",
        "_faults",
        "_filters",
        "_members",
        "_shown",
        "_started",
        "_table",
    )

    def __init__(self, faults: Faults, members: Iterable[Member], description: str, shown: Sequence[str]) -> None:
        self._faults = faults
        self._members = {member.name: member for member in members}
        self._description = description
        self._shown = shown
        self._table = faults.next_table()
        self._filters: dict[str, Filter] = {}
        self._dropped = 0
        self._started = self._ended = 0.0

    def start(self, chosen: Mapping[str, Filter]) -> None:
        """Apply these filters, by namespace; if one fails, all are removed."""
        try:
            for name, each in chosen.items():
                self._filters[name] = each
                nftables.apply(self._members[name].network, each.text(self._table))
        except BaseException:
            self._remove()
            raise
        self._started = time.time()
        self._faults.add(self)
        self._faults.add_filter(self)

    def heal(self) -> None:
        """Remove the filters; idempotent."""
        if not self._ended:
            self._dropped = self._count()
            self._ended = time.time()
            self._faults.discard(self)
            self._remove()

    @property
    def dropped(self) -> int:
        """The number of packets it has dropped so far."""
        return self._dropped if self._ended else self._count()

    def drops(self, namespace: str, interface: str, time: float, frame: bytes) -> bool:
        """Whether it has dropped a frame that an interface received, see `Faults.drops`."""
        chosen = self._filters.get(namespace)
        if chosen is None or time < self._started or (self._ended and time > self._ended):
            return False
        return chosen.drops(interface, frame)

    def notes(self) -> Sequence[Note]:
        """Its notes for drawings and reports."""
        return [Note(name, f"{self._description}, {self.dropped} packets dropped") for name in self._shown]

    def _count(self) -> int:
        packets = 0
        for name in self._filters:
            for family in filters.FAMILIES:
                with contextlib.suppress(NetnsError):  # it has no table of that family, or its lab is closed
                    listing = nftables.apply(self._members[name].network, f"list table {family} {self._table}")
                    packets += sum(map(int, _COUNTER.findall(listing)))
        return packets

    def _remove(self) -> None:
        networks: list[NetworkNamespace] = []
        for name in self._filters:
            with contextlib.suppress(NetnsError):  # its lab is closed, and the rules are gone
                networks.append(self._members[name].network)
        errors: list[NetnsError] = []
        for step in (filters.emptying, filters.removal):
            for network in networks:
                try:
                    nftables.apply(network, step(self._table))
                except NetnsError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def __repr__(self) -> str:
        place = (
            f"{self._shown[0]}: " if self._description == _ISOLATED else ""
        )  # other descriptions name the namespaces
        return f"<{place}{self._description}{' (healed)' if self._ended else ''}>"


def cut(faults: Faults, members: Sequence[Member], sources: Sequence[str], targets: Sequence[str]) -> Cut:
    """Drop what some namespaces send to others; the opposite direction stays open."""
    both = sorted(set(sources) & set(targets))
    if both:
        raise InvalidTopologyError(f"cannot cut namespace {both[0]!r} off from itself: name two different ones")
    description = f"cut: {', '.join(sources)} does not reach {', '.join(targets)}"
    pairs = [(source, target) for source in sources for target in targets]
    return _start(faults, members, description, pairs, targets)


def partition(faults: Faults, members: Sequence[Member], groups: Sequence[Sequence[str]]) -> Cut:
    """Drop everything between namespaces that share no group, in both directions."""
    if len(groups) < 2:
        raise InvalidTopologyError(
            f"cannot partition {len(groups)} group: give two or more, such as ['n1'], ['n2', 'n3']"
        )
    pairs = filters.pairs_of(groups)
    if not pairs:
        raise InvalidTopologyError("cannot partition: all namespaces share a group, so nothing would be cut")
    description = f"partition: {' | '.join(', '.join(group) for group in groups)}"
    return _start(faults, members, description, pairs, sorted({name for pair in pairs for name in pair}))


def isolate(faults: Faults, members: Sequence[Member], name: str) -> Cut:
    """Drop everything that enters or leaves a namespace, except on its loopback interface."""
    member = next(each for each in members if each.name == name)
    peers = [place for info in member.infos() if (place := member.peer_place(info)) is not None]
    isolation = Cut(faults, members, _ISOLATED, [name])
    isolation.start(filters.isolate(look(member), peers))
    return isolation


def _start(
    faults: Faults, members: Sequence[Member], description: str, pairs: Sequence[tuple[str, str]], shown: Sequence[str]
) -> Cut:
    made = Cut(faults, members, description, shown)
    made.start(filters.cut(look_at_all(members), pairs))
    return made

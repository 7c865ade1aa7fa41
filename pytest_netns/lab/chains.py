"""The chains that a namespace's rules are added to: kept short, and checked for foreign changes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from pytest_netns.errors import NetnsError
from pytest_netns.parts.gateway import nftext

State: TypeAlias = tuple[int, bool, frozenset[tuple[str, int]], dict[str, tuple[str, int]]]

# The kernel copies a chain for every rule that is added to it, so chains are kept short.
_RULES_PER_CHAIN = 50


class Chains:
    """The tables that all rules share, with their chains.

    Args:
        name: the namespace's name, for errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._frame = 0  # the number of jump rules to our chains; 0: no tables yet; -1: changed by something else
        self._translates_destinations = False
        self._maps: frozenset[tuple[str, int]] = frozenset()  # the port maps: protocol and IP version
        self._open: dict[str, tuple[str, int]] = {}  # by kind: the chain for the next rule, and its number of rules
        self._numbers = itertools.count(1)

    def state(self) -> State:
        """The state to restore if nft refuses the text generated after this."""
        return self._frame, self._translates_destinations, self._maps, dict(self._open)

    def restore(self, state: State) -> None:
        """Restore a state, as none of the text generated since is in force."""
        self._frame, self._translates_destinations, self._maps, self._open = state

    def check_frame(self, frame: int) -> None:
        """Compare with the number of jump rules to our chains that the kernel has."""
        if frame != self._frame:
            self._frame = -1 if frame else 0
            self._translates_destinations = False
            self._maps = frozenset()
            self._open.clear()

    def make(self) -> Iterator[str]:
        """The text that creates the tables, if they do not exist."""
        if self._frame < 0:
            tables = " and ".join(f"'nft delete table inet {table}'" for table in nftext.TABLES)
            raise NetnsError(
                f"cannot add rules to namespace {self._name!r}: something else has changed the tables of its "
                f"existing rules; delete the tables, with {tables}, and add all rules again"
            )
        if self.begin():
            yield nftext.frame()

    def begin(self) -> bool:
        """Whether the tables have to be created now; they exist from now on."""
        if self._frame:
            return False
        self._frame = nftext.FRAME_RULES
        return True

    def make_maps(self, wanted: Iterable[tuple[str, int]]) -> Iterator[str]:
        """The text that creates missing port maps, by protocol and IP version."""
        for protocol, version in wanted:
            if (protocol, version) not in self._maps:
                self._maps |= {(protocol, version)}
                self._frame += nftext.PORTS_MAP_RULES
                yield self._make_for(nftext.FORWARDS) + nftext.ports_map(protocol, version)

    def place(self, kind: str) -> tuple[str, str, str]:
        """The table and chain for the next rule of a kind, and the text that creates what is missing for it."""
        table = nftext.TABLE_OF[kind]
        made = self._make_for(kind)
        chain, rules = self._open.get(kind, (kind, 0))
        if rules >= _RULES_PER_CHAIN:
            chain, rules = f"{kind}-{next(self._numbers)}", 0
            self._frame += 1
            made += (
                f"add chain inet {table} {chain}\n"
                f'add rule inet {table} {kind} jump {chain} comment "{nftext.FRAME_COMMENT}"\n'
            )
        self._open[kind] = (chain, rules + 1)
        return table, chain, made

    def have_room(self, kinds: Iterable[str]) -> bool:
        """Whether the chains have room for rules of these kinds, once the tables exist."""
        return self._frame >= 0 and all(
            self._exists(kind) and self._open.get(kind, ("", 0))[1] + n <= _RULES_PER_CHAIN
            for kind, n in Counter(kinds).items()
        )

    def _exists(self, kind: str) -> bool:
        return self._translates_destinations or kind not in nftext.TRANSLATES_DESTINATIONS

    def _make_for(self, kind: str) -> str:
        """The text that creates the chains that a kind of rules needs, if they do not exist."""
        if self._exists(kind):
            return ""
        self._translates_destinations = True
        self._frame += nftext.DESTINATIONS_RULES
        return nftext.destinations()

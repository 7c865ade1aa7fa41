"""The chains that a namespace's rules are added to: kept short, and seen to be as we made them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from pytest_netns.errors import NetnsError
from pytest_netns.parts.gateway import nftext

State: TypeAlias = tuple[int, frozenset[tuple[str, int]], dict[str, tuple[str, int]]]

# With every rule the kernel copies the chain it is added to, so chains are kept short.
_RULES_PER_CHAIN = 50


class Chains:
    """The tables that rules share, with the chains in them.

    Args:
        name: the namespace's, for errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._frame = 0  # how many rules lead to chains of ours; 0: there are no tables yet; -1: somebody changed them
        self._maps: frozenset[tuple[str, int]] = frozenset()  # of ports: protocol and IP version
        self._open: dict[str, tuple[str, int]] = {}  # by kind, the chain that gets the next rule, and how many it has
        self._numbers = itertools.count(1)

    def state(self) -> State:
        """What to go back to where nft refuses the text that was made since."""
        return self._frame, self._maps, dict(self._open)

    def restore(self, state: State) -> None:
        """Nothing of the text that was made since is in force."""
        self._frame, self._maps, self._open = state

    def found(self, frame: int) -> None:
        """So many rules that lead to chains of ours are in the kernel."""
        if frame != self._frame:
            self._frame = -1 if frame else 0
            self._maps = frozenset()
            self._open.clear()

    def make(self) -> Iterator[str]:
        """The text of the tables, where they are not there."""
        if self._frame < 0:
            tables = " and ".join(f"'nft delete table inet {table}'" for table in nftext.TABLES)
            raise NetnsError(
                f"cannot add rules to namespace {self._name!r}: something else has changed the tables of those "
                f"that are there; delete the tables, with {tables}, and add all rules again"
            )
        if not self._frame:
            self._frame = nftext.FRAME_RULES
            yield nftext.frame()

    def make_maps(self, wanted: Iterable[tuple[str, int]]) -> Iterator[str]:
        """The text of the maps of ports, by protocol and IP version, that are not there."""
        for protocol, version in wanted:
            if (protocol, version) not in self._maps:
                self._maps |= {(protocol, version)}
                self._frame += nftext.PORTS_MAP_RULES
                yield nftext.ports_map(protocol, version)

    def place(self, kind: str) -> tuple[str, str, str]:
        """Table and chain of the next rule of a kind, and the text of that chain where it is a new one."""
        table = nftext.TABLE_OF[kind]
        chain, rules = self._open.get(kind, ("", _RULES_PER_CHAIN))
        made = ""
        if rules >= _RULES_PER_CHAIN:
            chain, rules = f"{kind}-{next(self._numbers)}", 0
            self._frame += 1
            made = (
                f"add chain inet {table} {chain}\n"
                f'add rule inet {table} {kind} jump {chain} comment "{nftext.FRAME_COMMENT}"\n'
            )
        self._open[kind] = (chain, rules + 1)
        return table, chain, made

    def have_room(self, kinds: Iterable[str]) -> bool:
        """Whether rules of these kinds go into chains that are there."""
        return self._frame > 0 and all(
            self._open.get(kind, ("", _RULES_PER_CHAIN))[1] + n <= _RULES_PER_CHAIN
            for kind, n in Counter(kinds).items()
        )

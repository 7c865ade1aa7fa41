"""The rules of a namespace, each with what it does and its state in the kernel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeAlias

from pytest_netns.kernel.netlink.nfrules import KernelRule
from pytest_netns.parts.gateway.forward import PortForwarding
from pytest_netns.parts.gateway.nftext import Effect, MappedPort, Table, Translation
from pytest_netns.values import IPAddress

_numbers = itertools.count(1)

AddressesOf: TypeAlias = Callable[[IPAddress | str], tuple[IPAddress, ...]]  # returns the addresses of a host
Resolve: TypeAlias = Callable[[AddressesOf], Translation]


class Entry:
    """A rule of a namespace: one or more nft rules, or elements of port maps.

    Attributes:
        identity: the prefix of the comments of its nft rules.
        table: its own table; empty if it shares one with others.
        effect: what it does.
        ports: its elements of port maps, instead of nft rules; empty for none.
        resolve: returns its effect with the present addresses of host names, which it is given; None if it has no names.
        state: ``"in force"``, ``"removed"``, or ``"deleted"`` by something else.
    """

    __slots__ = (
        "counted_before", "effect", "expected", "found", "identity", "place", "ports", "resolve", "state", "table",
    )  # fmt: skip

    def __init__(self, effect: Translation | Table, resolve: Resolve | None = None, *, kind: str = "") -> None:
        number = next(_numbers)
        self.identity = f"netns-{number}"
        self.table = f"netns_{kind}_{number}" if kind else ""
        self.effect = effect
        self.resolve = resolve
        self.state = "in force"
        self.place = self.table  # the table of its rules, if not a shared one
        self.expected = 0
        self.ports = _ports(effect)
        self.found: Sequence[KernelRule] = ()  # its nft rules, once read from the kernel
        self.counted_before: tuple[int, int] = (0, 0)  # the counts of its earlier nft rules

    def change_effect(self, effect: Translation) -> None:
        """Change what it does; it will consist of other nft rules."""
        self.effect, self.ports = effect, _ports(effect)
        self.expected, self.found = 0, ()


def _ports(effect: Effect) -> Sequence[MappedPort]:
    return effect.mapped if isinstance(effect, PortForwarding) else ()

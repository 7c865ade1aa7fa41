"""Forwarded ports as elements of nft maps: adding one takes a small message, however many there are."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence

from pytest_netns.kernel.netlink import nfelements
from pytest_netns.kernel.netlink.nfelements import Place
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.parts.gateway import nftext
from pytest_netns.parts.gateway.nftext import MappedPort

ELEMENTS = 2  # for each port: one translates, one counts


class Present:
    """The present contents of the kernel's maps.

    Args:
        netlink: a netfilter socket of the namespace.
        maps: their names.
    """

    def __init__(self, netlink: NetlinkSocket, maps: Iterable[str]) -> None:
        self._comments = {
            (table, name): nfelements.comments(netlink, Place(table, name)) for name in maps for table in nftext.TABLES
        }

    def count(self, identity: str, ports: Sequence[MappedPort]) -> int:
        """The number of existing elements for a rule's ports."""
        keys = [(each.map, _key(each)) for each in ports]
        translating = [self._comments[nftext.TABLE, name].get(key) for name, key in keys]
        counting = [key in self._comments[nftext.COUNTERS, name] for name, key in keys]
        return sum(text is not None and nftext.identity_of(text) == identity for text in translating) + sum(counting)


def change(
    netlink: NetlinkSocket, delete: Sequence[MappedPort], add: Sequence[tuple[str, Sequence[MappedPort]]]
) -> None:
    """Add and delete forwarded ports in one transaction.

    Args:
        netlink: a netfilter socket of the namespace.
        delete: the ports to delete.
        add: the ports to add, each with the comment for its elements.

    Raises:
        KernelError: the kernel refused; nothing was changed.
    """
    gone: dict[Place, list[bytes]] = defaultdict(list)
    for each in delete:
        for place in _places(each.map):
            gone[place].append(nfelements.element(_key(each)))
    made: dict[Place, list[bytes]] = defaultdict(list)
    for comment, ports in add:
        for each in ports:
            key, (translating, counting) = _key(each), _places(each.map)
            target = each.address.packed + each.target.to_bytes(2, "big") + b"\0\0"
            made[translating].append(nfelements.element(key, target, comment))
            made[counting].append(nfelements.element(key))
    nfelements.change(netlink, gone, made)


def counts(netlink: NetlinkSocket, ports: Iterable[MappedPort]) -> list[tuple[int, int]]:
    """The packets and bytes that each port has forwarded."""
    return [nfelements.counts(netlink, Place(nftext.COUNTERS, each.map), _key(each)) for each in ports]


@functools.cache
def _places(name: str) -> tuple[Place, Place]:
    """The map that translates, and the set that counts."""
    return Place(nftext.TABLE, name), Place(nftext.COUNTERS, name)


def _key(port: MappedPort) -> bytes:
    return port.port.to_bytes(2, "big")

"""Namespaces as seen by faults: name, interfaces, addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pytest_netns.kernel.netlink.rtlinks import IFF_LOOPBACK, LinkInfo
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.values import IPAddress, IPInterface


class Member(Protocol):
    """The interfaces of one namespace of a lab."""

    @property
    def name(self) -> str:
        """The namespace's name."""
        ...

    @property
    def network(self) -> NetworkNamespace:
        """The network namespace, which is open."""
        ...

    def infos(self) -> list[LinkInfo]:
        """All current interfaces."""
        ...

    def addresses(self) -> list[tuple[int, IPInterface]]:
        """All addresses, each with the index of its interface."""
        ...

    def peer_place(self, info: LinkInfo) -> tuple[str, str] | None:
        """The namespace and name of the other end of a veth pair; None if it is not in this lab."""
        ...


@dataclass(frozen=True)
class Node:
    """The state of a namespace when a fault starts.

    Attributes:
        name: the namespace's name.
        macs: those of all its interfaces: the source of what it sends on its own segments.
        addresses: IPv4 and IPv6, without loopback and link-local ones: the source of its packets across routers.
        interfaces: all except the loopback interface.
        ports: those that are bridge ports in this namespace: frames arriving there may be for others.
    """

    name: str
    macs: frozenset[str]
    addresses: tuple[IPAddress, ...]
    interfaces: tuple[str, ...]
    ports: frozenset[str]

    @property
    def entries(self) -> tuple[str, ...]:
        """The interfaces at which packets for the namespace itself arrive."""
        return tuple(name for name in self.interfaces if name not in self.ports)


def look(member: Member) -> Node:
    """Read the current state of a namespace."""
    infos = [info for info in member.infos() if not info.flags & IFF_LOOPBACK]
    bridges = {info.index for info in infos if info.kind == "bridge"}
    known = {info.index for info in infos}
    own_addresses = [
        address.ip for index, address in member.addresses() if index in known and not address.ip.is_link_local
    ]
    return Node(
        member.name,
        frozenset(info.mac for info in infos if len(info.mac) == len("02:00:00:00:00:01")),
        tuple(own_addresses),
        tuple(info.name for info in infos),
        frozenset(info.name for info in infos if info.master in bridges),
    )


def look_at_all(members: Iterable[Member]) -> Mapping[str, Node]:
    """Read the current state of all namespaces of a lab, by name."""
    return {member.name: look(member) for member in members}

"""The filters of a cut, as nft rules and as a predicate on a frame; pure.

Frames are dropped on arrival, before the namespace processes them (nft's ingress hook), so the sender
notices nothing and tracked connections are cut too. Packets that NAT routers in between translate are dropped
where these forward them, between the translations.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_netns.faults.members import Node
from pytest_netns.values import IPAddress

FAMILIES = ("netdev", "inet")  # of the tables
_PRIORITY = -500  # before everything else
_IPV4, _IPV6, _VLAN_TAGS = 0x0800, 0x86DD, (0x8100, 0x88A8)


@dataclass(frozen=True)
class Filter:
    """The filter of one namespace.

    Attributes:
        devices: the interfaces at which arriving frames are dropped.
        everything: whether all arriving frames are dropped.
        macs: source MAC addresses of frames to drop.
        sources: source addresses of packets to drop.
        forwarded: source and destination of packets not to be forwarded.
    """

    devices: tuple[str, ...] = ()
    everything: bool = False
    macs: frozenset[str] = frozenset()
    sources: frozenset[IPAddress] = frozenset()
    forwarded: frozenset[tuple[IPAddress, IPAddress]] = field(default_factory=frozenset)

    def text(self, table: str) -> str:
        """The nft text that adds the rules, in tables of this name."""
        return "".join([*self._arriving(table), *self._forwarding(table)])

    def drops(self, interface: str, frame: bytes) -> bool:
        """Whether a frame that arrives at an interface is dropped; forwarded packets match by their addresses before NAT."""
        source, ends = _read(frame)
        named = source in self.macs or (ends is not None and ends[0] in self.sources)
        arriving = interface in self.devices and (self.everything or named)
        return arriving or (ends is not None and ends in self.forwarded)

    def _arriving(self, table: str) -> Iterator[str]:
        rules = ["counter drop"] if self.everything else []
        if self.macs:
            rules.append(f"ether saddr {_set(self.macs)} counter drop")
        for family, version in (("ip", 4), ("ip6", 6)):
            chosen = [address for address in self.sources if address.version == version]
            if chosen:
                rules.append(f"{family} saddr {_set(chosen)} counter drop")
        if rules and self.devices:
            devices = ", ".join(f'"{name}"' for name in self.devices)
            hook = f"type filter hook ingress devices = {{ {devices} }} priority {_PRIORITY}; policy accept;"
            yield f"table netdev {table} {{\n  chain arriving {{\n    {hook}\n"
            yield from (f"    {rule}\n" for rule in rules)
            yield "  }\n}\n"

    def _forwarding(self, table: str) -> Iterator[str]:
        if not self.forwarded:
            return
        yield f"table inet {table} {{\n  chain forwarded {{\n    type filter hook forward priority {_PRIORITY}; policy accept;\n"
        for family, version in (("ip", 4), ("ip6", 6)):
            chosen = [f"{source} . {target}" for source, target in self.forwarded if source.version == version]
            if chosen:
                yield f"    {family} saddr . {family} daddr {_set(chosen)} counter drop\n"
        yield "  }\n}\n"


def emptying(table: str) -> str:
    """The nft text that empties the tables, so that everything passes at once; works if they are gone too."""
    return "".join(f"table {family} {table}\nflush table {family} {table}\n" for family in FAMILIES)


def removal(table: str) -> str:
    """The nft text that deletes the tables; the kernel waits 10 to 20 ms for each chain."""
    return "".join(f"table {family} {table}\ndelete table {family} {table}\n" for family in FAMILIES)


def cut(nodes: Mapping[str, Node], pairs: Iterable[tuple[str, str]]) -> dict[str, Filter]:
    """The filters that drop everything sent from the first namespace of a pair to the second."""
    wanted = sorted(set(pairs))
    senders: dict[str, list[Node]] = {}
    for source, target in wanted:
        senders.setdefault(target, []).append(nodes[source])
    filters: dict[str, Filter] = {}
    for name, node in nodes.items():
        sending = senders.get(name, [])
        forwarded = {
            (source, target)
            for first, second in (wanted if len(node.interfaces) > 1 else ())
            if name not in (first, second)
            for source in nodes[first].addresses
            for target in nodes[second].addresses
            if source.version == target.version
        }
        if sending or forwarded:
            filters[name] = Filter(
                node.entries if sending else (),
                False,
                frozenset(mac for each in sending for mac in each.macs),
                frozenset(address for each in sending for address in each.addresses),
                frozenset(forwarded),
            )
    return filters


def isolate(node: Node, peers: Iterable[tuple[str, str]]) -> dict[str, Filter]:
    """The filters that drop everything that arrives at a namespace and at the other ends of its links."""
    devices: dict[str, list[str]] = {node.name: list(node.interfaces)}
    for namespace, interface in peers:
        if interface not in devices.setdefault(namespace, []):
            devices[namespace].append(interface)
    return {name: Filter(tuple(interfaces), everything=True) for name, interfaces in devices.items() if interfaces}


def pairs_of(groups: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """The pairs of namespaces, in both directions, that share no group."""
    member_of: dict[str, set[int]] = {}
    for number, group in enumerate(groups):
        for name in group:
            member_of.setdefault(name, set()).add(number)
    return [(a, b) for a in member_of for b in member_of if not member_of[a] & member_of[b]]


def _set(items: Iterable[object]) -> str:
    return f"{{ {', '.join(sorted(map(str, items)))} }}"


def _read(frame: bytes) -> tuple[str, tuple[IPAddress, IPAddress] | None]:
    """The source MAC address of an Ethernet frame, and its IP addresses if it has any."""
    kind, at = int.from_bytes(frame[12:14], "big"), 14
    while kind in _VLAN_TAGS:
        kind, at = int.from_bytes(frame[at + 2 : at + 4], "big"), at + 4
    source = frame[6:12].hex(":")
    if kind == _IPV4 and len(frame) >= at + 20:
        return source, (
            ipaddress.IPv4Address(frame[at + 12 : at + 16]),
            ipaddress.IPv4Address(frame[at + 16 : at + 20]),
        )
    if kind == _IPV6 and len(frame) >= at + 40:
        return source, (ipaddress.IPv6Address(frame[at + 8 : at + 24]), ipaddress.IPv6Address(frame[at + 24 : at + 40]))
    return source, None

"""What a cut drops, as nft rules and as a question about one frame; pure.

Frames are dropped where they arrive, before anything of the namespace sees them (nft's ingress hook), so the sender
notices nothing and tracked connections are cut too. What routers in between know under other addresses (NAT) is dropped
where they forward it, between their translations.
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
    """What one namespace drops.

    Attributes:
        devices: the interfaces where frames are dropped as they arrive.
        everything: whether all of them are.
        macs: whose frames are dropped.
        sources: whose packets are dropped.
        forwarded: source and destination of packets that are not forwarded.
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
        """Whether a frame that arrives at an interface is dropped; what is forwarded is told by its addresses before NAT."""
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
    """The nft text that lets everything pass at once, whether or not somebody has done so already."""
    return "".join(f"table {family} {table}\nflush table {family} {table}\n" for family in FAMILIES)


def removal(table: str) -> str:
    """The nft text that takes what is left of the rules away; for each chain the kernel waits 10 to 20 ms."""
    return "".join(f"table {family} {table}\ndelete table {family} {table}\n" for family in FAMILIES)


def cut(nodes: Mapping[str, Node], pairs: Iterable[tuple[str, str]]) -> dict[str, Filter]:
    """What each namespace has to drop so that nothing the first of a pair sends reaches the second."""
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
                frozenset().union(*(each.macs for each in sending)),
                frozenset(address for each in sending for address in each.addresses),
                frozenset(forwarded),
            )
    return filters


def isolate(node: Node, peers: Iterable[tuple[str, str]]) -> dict[str, Filter]:
    """What drops everything that arrives at a namespace, and at the other ends of its cables."""
    devices: dict[str, list[str]] = {node.name: list(node.interfaces)}
    for namespace, interface in peers:
        if interface not in devices.setdefault(namespace, []):
            devices[namespace].append(interface)
    return {name: Filter(tuple(interfaces), everything=True) for name, interfaces in devices.items() if interfaces}


def pairs_of(groups: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """The pairs of namespaces, both ways, that share no group."""
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

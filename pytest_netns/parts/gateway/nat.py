"""Masquerade and port forwards as values, and the nft ruleset they make: pure.

All of a namespace's rules live in one table, ``inet netns``, and every change replaces its rules in one
transaction. Chains stay: taking one away makes the kernel wait 10-20 ms.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

TABLE = "inet netns"


@dataclass(frozen=True)
class Masquerade:
    """Packets from a source network leave with the address of the interface they leave by.

    Attributes:
        source: the network behind the gateway.
        out: the interface they leave by; None for any.
    """

    source: IPNetwork
    out: str | None = None

    def __str__(self) -> str:
        return f"masquerade {self.source}" + (f" out {self.out}" if self.out else "")


@dataclass(frozen=True)
class PortForward:
    """Connections to a port of this namespace lead to another address (DNAT).

    Attributes:
        port: the port of any of this namespace's own addresses.
        targets: where to, at most one address of each family.
        target_port: the port there.
        protocol: ``"tcp"`` or ``"udp"``.
    """

    port: int
    targets: tuple[IPAddress, ...]
    target_port: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.protocol} {self.port} → {self.targets[0]}:{self.target_port}"


def ruleset(masquerades: Sequence[Masquerade], port_forwards: Sequence[PortForward]) -> str:
    """The nft text that makes these rules, and no others, the ones of the table."""
    dnat = [rule for forward in port_forwards for rule in _dnat(forward)]
    # A client in the target's own network would get the answer straight from the target, and refuse it. Which clients
    # those are is seen by the packet leaving where it came from, so the interface is noted on the way in.
    hairpin = ["ct status dnat iifname . oifname @hairpin masquerade"] if dnat else []
    local = ["ct status dnat ip saddr 127.0.0.0/8 masquerade"] if dnat else []
    lines = [
        f"table {TABLE}",
        f"flush table {TABLE}",
        f"table {TABLE} {{",
        "  set hairpin { type ifname . ifname; size 4096; flags dynamic; }",
        *_chain(
            "prerouting",
            -100,
            [f"{match} update @hairpin {{ iifname . iifname }} {verdict}" for match, verdict in dnat],
        ),
        *_chain("output", -100, [f"{match} {verdict}" for match, verdict in dnat]),
        *_chain("postrouting", 100, [*hairpin, *local, *map(_masquerade, masquerades)]),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _chain(hook: str, priority: int, rules: Sequence[str]) -> Iterator[str]:
    if rules:
        yield f"  chain {hook} {{"
        yield f"    type nat hook {hook} priority {priority}; policy accept;"
        yield from (f"    {rule}" for rule in rules)
        yield "  }"


def _dnat(forward: PortForward) -> Iterator[tuple[str, str]]:
    for target in forward.targets:
        family, host = ("ip", str(target)) if target.version == 4 else ("ip6", f"[{target}]")
        match = f"meta nfproto ipv{target.version} fib daddr type local {forward.protocol} dport {forward.port}"
        yield match, f"dnat {family} to {host}:{forward.target_port}"


def _masquerade(rule: Masquerade) -> str:
    family = "ip" if rule.source.version == 4 else "ip6"
    out = f'oifname "{rule.out}" ' if rule.out is not None else ""
    return f"{out}{family} saddr {rule.source} {family} daddr != {rule.source} masquerade"

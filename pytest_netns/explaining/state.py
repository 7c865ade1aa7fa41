"""What a lab looked like at one moment, as plain values, and how two moments differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class InterfaceState:
    """An interface at one moment.

    Attributes:
        kind: ``"veth"``, ``"bridge"``, ``"loopback"`` ...
        bridge: the bridge it is plugged into, in the same namespace; empty for none.
        has_carrier: whether it can carry packets: it is up, and so is its peer.
        peer: namespace and name of the other end, where it is known.
    """

    name: str
    kind: str
    mac: str
    mtu: int
    is_up: bool
    has_carrier: bool
    addresses: tuple[str, ...] = ()
    bridge: str = ""
    peer: tuple[str, str] | None = None
    received: int = 0
    sent: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class NamespaceState:
    """A namespace at one moment; what is text is shown as it is.

    Attributes:
        notes: what a drawing says about it: forwarding, masquerades, port forwards.
        problems: what could not be found out, and why.
    """

    name: str
    interfaces: tuple[InterfaceState, ...] = ()
    routes: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()
    listening: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    ruleset: str = ""
    tracked: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def facts(self) -> list[str]:
        """What set-up decides and a test may change: interfaces, their state and addresses, routes."""
        facts = []
        for interface in self.interfaces:
            plugged = f" in bridge {interface.bridge}" if interface.bridge else ""
            facts.append(f"interface {interface.name}{plugged}, MTU {interface.mtu}")
            facts.append(f"{interface.name} is {'up' if interface.is_up else 'down'}")
            facts += [f"{interface.name} has {address}" for address in interface.addresses]
        facts += [f"route {route}" for route in self.routes]
        # The kernel adds link-local ones by itself, a moment after an interface has come up.
        return [fact for fact in facts if " fe80:" not in fact]


def changes(before: Mapping[str, NamespaceState], after: Mapping[str, NamespaceState]) -> list[str]:
    """How the second moment differs from the first: a line for each fact that is gone (``-``) or new (``+``)."""
    lines = [f"- {name}: the namespace" for name in before if name not in after]
    for name, now in after.items():
        old = before[name].facts() if name in before else []
        new = now.facts()
        if name not in before:
            lines.append(f"+ {name}: the namespace")
        lines += [f"- {name}: {fact}" for fact in old if fact not in new]
        lines += [f"+ {name}: {fact}" for fact in new if fact not in old]
    return lines


@dataclass(frozen=True)
class ServiceState:
    """A service: its command, the namespace it is in, what it wrote, and how it ended (empty where it runs)."""

    command: str
    namespace: str
    output: str
    death: str = ""


@dataclass(frozen=True)
class LabState:
    """A lab at one moment.

    Attributes:
        changes: what is different from when set-up had ended.
        failures: the commands that failed, with what they wrote.
    """

    namespaces: tuple[NamespaceState, ...] = ()
    changes: tuple[str, ...] = ()
    services: tuple[ServiceState, ...] = ()
    failures: tuple[str, ...] = ()

"""What a gateway does to packets: asked for as values, given back as handles that tell their counts and take it back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.lab.hosts import Hosts
from pytest_netns.lab.links import Links
from pytest_netns.lab.rules import Entry, Rules
from pytest_netns.parts.gateway import forward
from pytest_netns.parts.gateway.forward import PortForwarding, PortForwardSpec, PortIndex
from pytest_netns.parts.gateway.masquerade import MasqueradeSpec, Masquerading
from pytest_netns.parts.keys import check_values
from pytest_netns.values import IPAddress


class GatewayRule:
    """Something a namespace does to packets that pass; base of `Masquerade`, `PortForward` and the others."""

    __slots__ = ("_entry", "_rules")

    def __init__(self, rules: Rules, entry: Entry) -> None:
        self._rules = rules
        self._entry = entry

    @property
    def packets(self) -> int:
        """How many packets it has matched on their way there; answers to them are not counted.

        Raises:
            NetnsError: it is not in force any more: removed, or deleted by somebody else.
        """
        return self._rules.counts(self._entry)[0]

    @property
    def bytes(self) -> int:
        """The bytes of those packets, their IP headers included.

        Raises:
            NetnsError: as for `packets`.
        """
        return self._rules.counts(self._entry)[1]

    def remove(self) -> None:
        """Take it back; idempotent. TCP connections that are open through it go on, as with any nft rule.

        Raises:
            NetnsError: somebody else has deleted it already, such as by ``nft flush ruleset``.
        """
        self._rules.remove(self._entry)

    def __repr__(self) -> str:
        state = "" if self._entry.state == "in force" else f" ({self._entry.state})"
        return f"<{type(self).__name__} {self._entry.translation.words}{state}>"


class Masquerade(GatewayRule):
    """A network hidden behind a router's own address; made by `Namespace.masquerade`."""

    __slots__ = ()


class PortForward(GatewayRule):
    """Ports that lead elsewhere; made by `Namespace.forward_port`.

    Attributes:
        spec: what it was asked for as.
    """

    __slots__ = ("spec",)

    def __init__(self, rules: Rules, entry: Entry, spec: PortForwardSpec) -> None:
        super().__init__(rules, entry)
        self.spec = spec


class Gateway:
    """What one namespace does to packets that pass.

    Args:
        rules: its rules in the kernel.
        links: its interfaces.
        names: which name leads where.
    """

    def __init__(self, rules: Rules, links: Links, names: Hosts) -> None:
        self._rules = rules
        self._links = links
        self._names = names
        self._name = links.network.name
        self._masquerades: dict[Masquerading, Entry] = {}
        self._forwards: PortIndex[Entry] = PortIndex()

    def masquerade(self, spec: MasqueradeSpec) -> Masquerade:
        """Hide a network."""
        (handle,) = self.add([spec])
        assert isinstance(handle, Masquerade)
        return handle

    def forward_port(self, spec: PortForwardSpec) -> PortForward:
        """Lead ports elsewhere."""
        (handle,) = self.add([spec])
        assert isinstance(handle, PortForward)
        return handle

    def add(self, specs: Sequence[MasqueradeSpec | PortForwardSpec]) -> list[GatewayRule]:
        """Put what specs say into force, in one transaction; a masquerade that is there already stays as it is.

        Raises:
            InvalidTopologyError: a value that cannot be part of a rule, or two that contradict each other.
        """
        self._rules.look()
        handles: list[GatewayRule] = []
        new: list[Entry] = []
        found = functools.cache(self._addresses)  # of a thousand forwards to one namespace
        forwards: PortIndex[Entry] = PortIndex()
        for spec in specs:
            check_values(spec)
            if isinstance(spec, PortForwardSpec):
                self._check(spec, forwards)
                entry = self._forward(spec, found)
                forwards.add(spec, entry)
                handles.append(PortForward(self._rules, entry, spec))
                new.append(entry)
            else:
                translation = self._masquerade(spec)
                known = self._masquerades.get(translation)
                if known is None or known.state != "in force":
                    known = self._masquerades[translation] = Entry(translation)
                    new.append(known)
                handles.append(Masquerade(self._rules, known))
        if new:
            self._rules.add(*new)
        for entry in new:
            if isinstance(entry.translation, PortForwarding):
                self._forwards.add(entry.translation.spec, entry)
        return handles

    def _check(self, spec: PortForwardSpec, others: PortIndex[Entry]) -> None:
        for _, mistake in forward.mistakes(spec):
            raise InvalidTopologyError(mistake)
        for index in (self._forwards, others):
            for other, entry in index.conflicting(spec):
                if index is others or entry.state == "in force":
                    raise InvalidTopologyError(forward.contradiction(spec, other))

    def _masquerade(self, spec: MasqueradeSpec) -> Masquerading:
        return Masquerading(spec.source, None if spec.out is None else self._links.find(spec.out).name)

    def _forward(self, spec: PortForwardSpec, found: Callable[[IPAddress | str], tuple[IPAddress, ...]]) -> Entry:
        if spec.address is not None:
            own = self._links.own_addresses()
            if not any(spec.address in each.network for each in own):
                raise InvalidTopologyError(
                    f"cannot forward port {spec.port} of namespace {self._name!r} at {spec.address}: it is in none of "
                    f"its networks; it has {', '.join(map(str, own)) or 'no address'}"
                )
        addresses = tuple(found(target.host) for target in spec.to)
        for target, those in zip(spec.to, addresses, strict=True):
            if not those:
                raise InvalidTopologyError(f"cannot use namespace {target.host!r} as a target: it has no address yet")
        translation = PortForwarding(spec, addresses)
        if not any(True for _ in translation.rules()):
            raise InvalidTopologyError(
                f"cannot forward {translation.words!r} of namespace {self._name!r}: source, address and target have no "
                "IP version in common"
            )
        if all(not isinstance(target.host, str) for target in spec.to):
            return Entry(translation)
        self._names.watch(self._rules.follow)
        return Entry(
            translation, lambda: PortForwarding(spec, tuple(self._addresses(target.host) for target in spec.to))
        )

    def _addresses(self, host: IPAddress | str) -> tuple[IPAddress, ...]:
        return tuple(self._names.best_addresses(self._name, host)) if isinstance(host, str) else (host,)

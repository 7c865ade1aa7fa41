"""The handles of a gateway's rules: each has counters, and can be removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pytest_netns.errors import NetnsError
from pytest_netns.kernel.nft import prefixes
from pytest_netns.lab.entries import Entry
from pytest_netns.lab.links import Links
from pytest_netns.lab.rules import Rules
from pytest_netns.parts.gateway.forward import PortForwardSpec
from pytest_netns.parts.gateway.nat import NatKind, NatSpec
from pytest_netns.parts.gateway.snat import OneToOneSpec, SnatSpec
from pytest_netns.values.notes import Note

_RULES_OF_A_PREFIX = 2


class GatewayRule:
    """A rule for forwarded packets; base of `Masquerade`, `PortForward` and the others."""

    __slots__ = ("_entry", "_rules")

    def __init__(self, rules: Rules, entry: Entry) -> None:
        self._rules = rules
        self._entry = entry

    @property
    def packets(self) -> int:
        """The number of packets it has matched in the forward direction; replies are not counted.

        Raises:
            NetnsError: it is no longer in force: removed, or deleted by something else.
            UnavailableError: it is a forward of one port, and the kernel is older than Linux 5.7.
        """
        return self._rules.counts(self._entry)[0]

    @property
    def bytes(self) -> int:
        """The bytes of those packets, including IP headers.

        Raises:
            NetnsError: as for `packets`.
        """
        return self._rules.counts(self._entry)[1]

    def remove(self) -> None:
        """Remove it; idempotent. Open TCP connections through it continue, as with any nft rule.

        Raises:
            NetnsError: something else has already deleted it, such as ``nft flush ruleset``.
        """
        self._rules.remove(self._entry)

    def __repr__(self) -> str:
        state = "" if self._entry.state == "in force" else f" ({self._entry.state})"
        return f"<{type(self).__name__} {self._entry.effect.description}{state}>"


class Masquerade(GatewayRule):
    """A network masqueraded behind a router's own address; returned by `Namespace.masquerade`."""

    __slots__ = ()


class PortForward(GatewayRule):
    """Forwarded ports; returned by `Namespace.forward_port`."""

    __slots__ = ("_spec",)

    def __init__(self, rules: Rules, entry: Entry, spec: PortForwardSpec) -> None:
        super().__init__(rules, entry)
        self._spec = spec

    @property
    def spec(self) -> PortForwardSpec:
        """The specification it was created from."""
        return self._spec


class Snat(GatewayRule):
    """Translated addresses; returned by `Namespace.snat` and `Namespace.nat_1to1`."""

    __slots__ = ("_spec", "_undo")

    def __init__(self, rules: Rules, entry: Entry, spec: SnatSpec | OneToOneSpec, undo: Callable[[], None]) -> None:
        super().__init__(rules, entry)
        self._spec = spec
        self._undo = undo

    @property
    def spec(self) -> SnatSpec | OneToOneSpec:
        """The specification it was created from."""
        return self._spec

    def remove(self) -> None:
        """Remove it, and the address that was added for it; idempotent.

        Raises:
            NetnsError: something else has already deleted it.
        """
        super().remove()
        undo, self._undo = self._undo, lambda: None
        undo()


class Nat(GatewayRule):
    """The NAT of a device; returned by `Namespace.nat`."""

    __slots__ = ("_kind", "_spec")

    def __init__(self, rules: Rules, entry: Entry, spec: NatSpec, kind: NatKind) -> None:
        super().__init__(rules, entry)
        self._spec = spec
        self._kind = kind

    @property
    def spec(self) -> NatSpec:
        """The specification it was created from."""
        return self._spec

    @property
    def kind(self) -> NatKind:
        """How it maps and filters."""
        return self._kind


class PrefixTranslation:
    """An inner IPv6 prefix translated to an outer one; returned by `Namespace.nptv6`."""

    __slots__ = ("_forget", "_links", "_removed", "_rule")

    def __init__(self, links: Links, rule: prefixes.Rule, forget: Callable[[PrefixTranslation], None]) -> None:
        self._links = links
        self._rule = rule
        self._forget = forget
        self._removed = False

    @property
    def inner(self) -> str:
        """The inner prefix."""
        return self._rule.inner

    @property
    def outer(self) -> str:
        """The outer prefix."""
        return self._rule.outer

    @property
    def packets(self) -> int:
        """The number of packets it has translated, in both directions.

        Raises:
            NetnsError: it has been removed, or something else has deleted its rules.
        """
        return self._counts()[0]

    @property
    def bytes(self) -> int:
        """The bytes of those packets, including IP headers.

        Raises:
            NetnsError: as for `packets`.
        """
        return self._counts()[1]

    def remove(self) -> None:
        """Remove it; idempotent.

        Raises:
            NetnsError: something else has already deleted its rules.
        """
        if not self._removed:
            self._counts()
            self._removed = True
            self._forget(self)
            prefixes.remove(self._links.network, self._rule)

    def _counts(self) -> tuple[int, int]:
        refused = f"cannot use {self.description!r} of namespace {self._links.name!r}"
        if self._removed:
            raise NetnsError(f"{refused}: it has been removed; add it again")
        counts = prefixes.counts(self._links.network, self._rule)
        if len(counts) < _RULES_OF_A_PREFIX:
            raise NetnsError(f"{refused}: something else has deleted its ip6tables rules; add it again")
        return sum(packets for packets, _ in counts), sum(octets for _, octets in counts)

    @property
    def description(self) -> str:
        """Its description in drawings."""
        return f"prefix {self.inner} ↔ {self.outer} out {self._rule.out} (RFC 6296)"

    def notes(self) -> Iterator[Note]:
        """Its description in drawings."""
        yield Note(self._links.name, self.description)

    def __repr__(self) -> str:
        return f"<PrefixTranslation {self.description}{' (removed)' if self._removed else ''}>"

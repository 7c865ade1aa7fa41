"""A namespace's rules for forwarded packets: masquerades, port forwards, NAT, firewalls; added and removed one by one.

The kernel's ruleset is authoritative: if something else has changed it, it is read again before each operation. Rules
that something else has deleted are not added again.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, cast

from pytest_netns.errors import KernelError, NetnsError, UnavailableError
from pytest_netns.kernel.netlink import conntrack, nfrules, nftranslations, nfwrite
from pytest_netns.kernel.netlink.conntrack import TrackedConnection
from pytest_netns.kernel.netlink.nfrules import KernelRule
from pytest_netns.kernel.netlink.socket import NETLINK_NETFILTER, NetlinkSocket
from pytest_netns.kernel.nft import command
from pytest_netns.kernel.nft.nftables import Nft
from pytest_netns.lab import portmaps, tracking
from pytest_netns.lab.chains import Chains
from pytest_netns.lab.links import Links
from pytest_netns.parts.gateway import nftext
from pytest_netns.parts.gateway.forward import PortForwarding
from pytest_netns.parts.gateway.nftext import Effect, Forwarded, MappedPort, Table, Translation
from pytest_netns.values import IPAddress
from pytest_netns.values.notes import Note

_FIRST_LOG_GROUP = 1000  # users probably choose small numbers for their own groups
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


class Rules:
    """The rules of one namespace.

    Args:
        links: the namespace's interfaces.
        prepare: applies the settings that the rules need, such as forwarding; called after they were added.

    Attributes:
        has_user_text: whether a user has applied nft text.
    """

    def __init__(self, links: Links, prepare: Callable[[Sequence[Effect]], None]) -> None:
        self.has_user_text = False
        self._links = links
        self._name = links.name
        self._prepare = prepare
        self._lock = threading.RLock()
        self._entries: list[Entry] = []
        self._open_nft: Nft | None = None
        self._open_netlink: NetlinkSocket | None = None
        self._close_later: list[Callable[[], None]] = []
        self._log_groups = itertools.count(_FIRST_LOG_GROUP)
        self._generation = 1  # the last known generation of the ruleset; the kernel starts at 1
        self._chains = Chains(self._name)

    # -- reading --------------------------------------------------------------------------------------

    @property
    def any(self) -> bool:
        """Whether there are rules that have been added and not removed."""
        return bool(self._entries)

    def refresh(self) -> None:
        """Update which rules are in force, as something else may have deleted some."""
        if self._entries:
            with self._lock:
                self._refresh()

    @property
    def entries(self) -> list[Entry]:
        """The rules that are in force, in the order they were added."""
        with self._lock:
            self._refresh()
            return list(self._entries)

    def counts(self, entry: Entry) -> tuple[int, int]:
        """The number of packets a rule has matched, and their bytes.

        Raises:
            NetnsError: it is no longer in force.
        """
        with self._lock:
            self._refresh()
            self.check_in_force(entry, "read the counter of")
            if not entry.found and not entry.ports:
                self._find_all()
            rules = [nfrules.counted(self._netlink, rule) for rule in entry.found if rule.table != nftext.TABLE]
            counts = [(rule.packets, rule.bytes) for rule in rules] + portmaps.counts(self._netlink, entry.ports)
        packets, octets = zip(entry.counted_before, *counts, strict=True)
        return sum(packets), sum(octets)

    def notes(self) -> Iterator[Note]:
        """The notes of the rules in force."""
        if self._entries:
            yield from (Note(self._name, each.effect.description) for each in self.entries)

    # -- changes --------------------------------------------------------------------------------------

    def add(self, *added: Entry, instead_of: Sequence[Entry] = ()) -> None:
        """Add rules: nft rules in one transaction, then elements of maps of ports in another one.

        Args:
            added: the rules.
            instead_of: rules in force that they replace.

        Raises:
            RulesetError: nft refused them; none of them is in force.
            UnavailableError: this machine has no nft.
        """
        with self._lock:
            self._nft  # noqa: B018 - first, as it raises an error if this machine lacks nft
            self._refresh()
            alone = added[0] if len(added) == 1 and not instead_of else None
            if alone is None or not self._add_plain(alone):
                self._change(added, "".join(map(self._delete, instead_of)))
            for each in instead_of:
                each.state = "removed"
                self._entries.remove(each)
            self._entries += added
        effects = [entry.effect for entry in added]
        self._prepare(effects)
        self.forget(effects)

    def follow(self, addresses_of: AddressesOf) -> None:
        """Update the rules that refer to host names, whose addresses may have changed."""
        with self._lock:
            named = [(each, each.resolve) for each in self._entries if each.resolve is not None]
            if not named or not (present := set(self.entries)):
                return
            for entry, resolve in named:
                translation = resolve(addresses_of)
                if entry not in present or translation == entry.effect:
                    continue
                before = entry.effect
                with contextlib.suppress(UnavailableError):  # a kernel that counts no ports, before Linux 5.7
                    entry.counted_before = self.counts(entry)
                places, ports, gone = list(entry.found), entry.ports, self._delete(entry)
                entry.change_effect(translation)
                if ports or entry.ports:
                    self._change([entry], delete_ports=ports)
                elif entry.place and len(places) == len(list(translation.rules())):  # the order matters
                    self._replace(entry, places)
                else:
                    self._change([entry], gone)
                self.forget([before, translation])

    def remove(self, entry: Entry) -> None:
        """Remove a rule; idempotent.

        Raises:
            NetnsError: something else has deleted it.
        """
        with self._lock:
            if entry.state == "removed":
                return
            self._refresh()
            self.check_in_force(entry, "remove")
            if entry.ports:
                self._change_ports(entry.ports)
            else:
                self._apply(self._delete(entry))
            for each in [entry, *(each for each in self._entries if entry.table and each.place == entry.table)]:
                each.state = "removed"
            self._entries = [each for each in self._entries if each.state == "in force"]
        self.forget([entry.effect])

    def apply_text(self, text: str, *, forget_connections: bool = True) -> str:
        """Apply a user's nft text; returns nft's output.

        Args:
            text: nft(8) text.
            forget_connections: if it changes NAT rules, apply them to existing connections too, except for established
                TCP connections.
        """
        self.has_user_text = True
        if not forget_connections or not tracking.are_any(self._netlink):
            return command.apply(self._links.network, text)
        before = nftranslations.read(self._netlink)
        output = command.apply(self._links.network, text)
        if nftranslations.read(self._netlink) != before:
            tracking.forget_if(self._netlink)
        return output

    def ruleset(self) -> str:
        """The whole ruleset, as nft lists it."""
        return self._nft.apply("list ruleset")

    def has_ever_had_any(self) -> bool:
        """Whether the namespace has ever had any nft rules."""
        try:
            return nfrules.has_rules(self._netlink)
        except KernelError:  # a kernel without nftables
            return False

    def tracked_connections(self) -> list[TrackedConnection]:
        """The connections tracked now."""
        return conntrack.tracked(self._netlink)

    def forget_connections(self) -> None:
        """Forget all connections, as a router does that is restarted."""
        learnt = [(each.table, name) for each in self.entries if each.table for name in cast(Table, each.effect).sets()]
        if learnt:
            self._apply("".join(f"flush {name.replace(' ', f' inet {table} ')}\n" for table, name in learnt))
        conntrack.delete_all(self._netlink)

    def element(self, entry: Entry, name: str, value: object, *, add: bool) -> None:
        """Add a value to a set of an entry's table, or delete it; idempotent."""
        with self._lock:
            self._refresh()
            self.check_in_force(entry, "change")
            # nft refuses to delete a missing element, so it is added first.
            self._apply(f"add element inet {entry.table} {name} {{ {value} }}\n")
            if not add:
                self._apply(f"delete element inet {entry.table} {name} {{ {value} }}\n")

    def open_netlink(self) -> NetlinkSocket:
        """A new netfilter socket of the namespace; the caller closes it."""
        return self._links.network.open_netlink(NETLINK_NETFILTER)

    def next_log_group(self) -> int:
        """A log group that none of our rules uses."""
        return next(self._log_groups)

    def close_later(self, close: Callable[[], None]) -> None:
        """Register a function to call when these rules are closed."""
        self._close_later.append(close)

    def close(self) -> None:
        """Close the sockets in the namespace; idempotent."""
        with self._lock:
            if self._open_nft is not None:
                self._open_nft.close()
            if self._open_netlink is not None:
                self._open_netlink.close()
            self._open_nft = self._open_netlink = None
            for close in self._close_later:
                close()
            self._close_later.clear()

    # -- tracked connections --------------------------------------------------------------------------

    def forget(self, effects: Sequence[Effect]) -> None:
        """Forget the connections that these rules would translate differently."""
        tracking.forget(self._netlink, effects, lambda: {address.ip for _, address in self._links.addresses()})

    # -- the kernel's ruleset -------------------------------------------------------------------------

    @property
    def _nft(self) -> Nft:
        with self._lock:
            if self._open_nft is None:
                self._open_nft = Nft(self._links.network)
            return self._open_nft

    @property
    def _netlink(self) -> NetlinkSocket:
        with self._lock:
            network = self._links.network  # raises an error if the lab is closed
            if self._open_netlink is None:
                self._open_netlink = network.open_netlink(NETLINK_NETFILTER)
            return self._open_netlink

    def _apply(self, text: str, *, apart: bool = False) -> None:
        """Apply nft text; in a separate process if it is so complex that some version of libnftables may crash on it."""
        if apart:
            command.apply(self._links.network, text)
        else:
            self._nft.apply(text)
        self._generation += 1  # if the kernel has another number, something else has changed the ruleset too

    def _change(self, added: Sequence[Entry], text: str = "", delete_ports: Sequence[MappedPort] = ()) -> None:
        """Add the rules of entries, together with further text; then change the port maps."""
        before = self._chains.state()
        in_frame = any(not each.table for each in added)
        try:
            lines = [text, *(self._chains.make() if in_frame else ())]
            lines += self._chains.make_maps((each.protocol, each.version) for entry in added for each in entry.ports)
            lines += [line for entry in added if not entry.ports for line in self._write(entry)]
            if text := "".join(lines):
                self._apply(text, apart=any(each.table for each in added))
        except BaseException:
            self._chains.restore(before)
            raise
        ported = [each for each in added if each.ports]
        if ported or delete_ports:
            try:
                self._change_ports(delete_ports, ported)
            except BaseException:
                self._find_all(added)
                if undo := "".join(map(self._delete, added)):
                    self._apply(undo)
                raise
        if any(each.table for each in added):
            for each in added:
                each.expected = max(each.expected, len(nfrules.rules(self._netlink, each.table)) if each.table else 0)

    def _change_ports(self, delete: Sequence[MappedPort], add: Sequence[Entry] = ()) -> None:
        """Change the elements of port maps in one transaction."""
        commented = [(nftext.comment(each.identity, each.effect.description), each.ports) for each in add]
        try:
            portmaps.change(self._netlink, delete, commented)
        except KernelError:  # nft has better error messages, and can do more in one transaction
            lines = [each.text_of_deletion() for each in delete]
            self._apply("".join(lines + [each.text(comment) for comment, ports in commented for each in ports]))
        else:
            self._generation += 1
        for each in add:
            each.expected = portmaps.ELEMENTS * len(each.ports)

    def _replace(self, entry: Entry, places: Sequence[KernelRule]) -> None:
        lines = list(self._write(entry))
        replaced = [
            line.replace(
                f"add rule inet {old.table} {old.chain}",
                f"replace rule inet {old.table} {old.chain} handle {old.handle}",
            )
            for line, old in zip(lines, places, strict=True)
        ]
        self._apply("".join(replaced))

    def _delete(self, entry: Entry) -> str:
        """The text that deletes an entry's rules."""
        if entry.table:
            return f"delete table inet {entry.table}\n"
        if not entry.found and not entry.ports:
            self._find_all()
        return "".join(f"delete rule inet {each.table} {each.chain} handle {each.handle}\n" for each in entry.found)

    def _refresh(self) -> None:
        """If something else has changed the ruleset, find out which of our rules still exist."""
        generation = nfrules.generation(self._netlink)
        if generation != self._generation:
            self._find_all()
            self._generation = generation

    def _find_all(self, also: Sequence[Entry] = ()) -> None:
        present: dict[str, list[KernelRule]] = {}
        for table in dict.fromkeys([*nftext.TABLES, *(each.place for each in self._entries if each.place)]):
            for rule in nfrules.rules(self._netlink, table):
                present.setdefault(nftext.identity_of(rule.comment), []).append(rule)
        elements = portmaps.Present(
            self._netlink, {port.map for entry in (*self._entries, *also) for port in entry.ports}
        )
        for entry in (*self._entries, *also):
            entry.found = present.get(entry.identity, [])
            if len(entry.found) + elements.count(entry.identity, entry.ports) < entry.expected:
                entry.state = "deleted"
        self._entries = [each for each in self._entries if each.state == "in force"]
        self._chains.check_frame(len(present.get(nftext.FRAME_COMMENT, ())))

    def check_in_force(self, entry: Entry, action: str) -> None:
        """Raise an error if a rule is not in force.

        Raises:
            NetnsError: it was removed, or deleted by something else.
        """
        refused = f"cannot {action} {entry.effect.description!r} of namespace {self._name!r}"
        if entry.state == "removed":
            raise NetnsError(f"{refused}: it has been removed; add it again")
        if entry.state == "deleted":
            raise NetnsError(
                f"{refused}: its nft rules are no longer in the kernel: something else has deleted them "
                "(such as 'nft flush ruleset'); add it again"
            )

    def _write(self, entry: Entry) -> Iterator[str]:
        """The text of an entry's rules, and of new chains for them."""
        comment = f'comment "{nftext.comment(entry.identity, entry.effect.description)}"'
        if entry.table:
            yield cast(Table, entry.effect).table(entry.table, comment)
            return
        for rule in cast(Translation, entry.effect).rules():
            entry.expected += 1
            table, chain, made = (rule.table, rule.chain, "") if rule.table else self._chains.place(rule.chain)
            yield f"{made}add rule inet {table} {chain} {rule.text} {comment}\n"

    def _add_plain(self, entry: Entry) -> bool:
        """Add a port forward without nft; returns False if it needs nft, or a new chain."""
        if not isinstance(entry.effect, PortForwarding):
            return False
        rules = [] if entry.ports else entry.effect.plain()
        if not rules or not self._chains.have_room(chain for chain, _ in rules):
            return False
        comment = nftext.comment(entry.identity, entry.effect.description)
        written: list[tuple[str, str, str, bytes]] = []
        before = self._chains.state()
        for kind, rule in rules:
            table, chain, _ = self._chains.place(kind)
            written.append((table, chain, comment, _expressions(rule)))
        try:
            nfwrite.add(self._netlink, written)
        except KernelError:  # nft has better error messages
            self._chains.restore(before)
            return False
        self._generation += 1
        entry.expected = len(rules)
        return True


def _ports(effect: Effect) -> Sequence[MappedPort]:
    return effect.mapped if isinstance(effect, PortForwarding) else ()


def _expressions(plain: Forwarded) -> bytes:
    version, protocol, ports, limits, target = plain
    if target is None:
        return nfwrite.count(version, protocol, ports, limits)
    return nfwrite.dnat(version, protocol, ports, limits, target)

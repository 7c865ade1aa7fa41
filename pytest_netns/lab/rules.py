"""A namespace's rules for forwarded packets: masquerades, port forwards, NAT, firewalls; added and removed one by one.

The kernel's ruleset is authoritative: if something else has changed it, it is read again before each operation. Rules
that something else has deleted are not added again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from pytest_netns.errors import KernelError, NetnsError, UnavailableError
from pytest_netns.kernel.netlink import conntrack, nfrules, nfwrite
from pytest_netns.kernel.netlink.nfrules import KernelRule
from pytest_netns.kernel.nft import nftables
from pytest_netns.lab import plain_rules, portmaps
from pytest_netns.lab.chains import Chains
from pytest_netns.lab.entries import AddressesOf, Entry
from pytest_netns.lab.links import Links
from pytest_netns.lab.ruleset import Ruleset
from pytest_netns.parts.gateway import nftext
from pytest_netns.parts.gateway.nftext import Effect, MappedPort, Table, Translation
from pytest_netns.values.notes import Note


class Rules:
    """The rules of one namespace.

    Args:
        links: the namespace's interfaces.
        prepare: applies the settings that the rules need, such as forwarding; called after they were added.

    Attributes:
        ruleset: the namespace's nft ruleset.
    """

    def __init__(self, links: Links, prepare: Callable[[Sequence[Effect]], None]) -> None:
        self._name = links.name
        self._prepare = prepare
        self._lock = threading.RLock()
        self.ruleset = Ruleset(links, self._lock)
        self._entries: list[Entry] = []
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
            rules = [nfrules.counted(self.ruleset.netlink, rule) for rule in entry.found if rule.table != nftext.TABLE]
            counts = [(rule.packets, rule.bytes) for rule in rules] + portmaps.counts(self.ruleset.netlink, entry.ports)
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
            nftables.load()  # first, as it raises an error if this machine lacks nft
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
        self.ruleset.forget_connections(effects)

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
                self.ruleset.forget_connections([before, translation])

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
                self.ruleset.apply(self._delete(entry))
            for each in [entry, *(each for each in self._entries if entry.table and each.place == entry.table)]:
                each.state = "removed"
            self._entries = [each for each in self._entries if each.state == "in force"]
        self.ruleset.forget_connections([entry.effect])

    def forget_connections(self) -> None:
        """Forget all connections, as a router does that is restarted."""
        learnt = [(each.table, name) for each in self.entries if each.table for name in cast(Table, each.effect).sets()]
        if learnt:
            self.ruleset.apply("".join(f"flush {name.replace(' ', f' inet {table} ')}\n" for table, name in learnt))
        conntrack.delete_all(self.ruleset.netlink)

    def element(self, entry: Entry, name: str, value: object, *, add: bool) -> None:
        """Add a value to a set of an entry's table, or delete it; idempotent."""
        with self._lock:
            self._refresh()
            self.check_in_force(entry, "change")
            # nft refuses to delete a missing element, so it is added first.
            self.ruleset.apply(f"add element inet {entry.table} {name} {{ {value} }}\n")
            if not add:
                self.ruleset.apply(f"delete element inet {entry.table} {name} {{ {value} }}\n")

    # -- the kernel's ruleset -------------------------------------------------------------------------

    def _change(self, added: Sequence[Entry], text: str = "", delete_ports: Sequence[MappedPort] = ()) -> None:
        """Add the rules of entries, together with further text; then change the port maps."""
        before = self._chains.state()
        in_frame = any(not each.table for each in added)
        try:
            lines = [text, *(self._chains.make() if in_frame else ())]
            lines += self._chains.make_maps((each.protocol, each.version) for entry in added for each in entry.ports)
            lines += [line for entry in added if not entry.ports for line in self._write(entry)]
            if text := "".join(lines):
                self.ruleset.apply(text, apart=any(each.table for each in added))
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
                    self.ruleset.apply(undo)
                raise
        if any(each.table for each in added):
            for each in added:
                each.expected = max(
                    each.expected, len(nfrules.rules(self.ruleset.netlink, each.table)) if each.table else 0
                )

    def _change_ports(self, delete: Sequence[MappedPort], add: Sequence[Entry] = ()) -> None:
        """Change the elements of port maps in one transaction."""
        commented = [(nftext.comment(each.identity, each.effect.description), each.ports) for each in add]
        try:
            portmaps.change(self.ruleset.netlink, delete, commented)
        except KernelError:  # nft has better error messages, and can do more in one transaction
            lines = [each.text_of_deletion() for each in delete]
            self.ruleset.apply("".join(lines + [each.text(comment) for comment, ports in commented for each in ports]))
        else:
            self.ruleset.count_change()
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
        self.ruleset.apply("".join(replaced))

    def _delete(self, entry: Entry) -> str:
        """The text that deletes an entry's rules."""
        if entry.table:
            return f"delete table inet {entry.table}\n"
        if not entry.found and not entry.ports:
            self._find_all()
        return "".join(f"delete rule inet {each.table} {each.chain} handle {each.handle}\n" for each in entry.found)

    def _refresh(self) -> None:
        """If something else has changed the ruleset, find out which of our rules still exist."""
        generation = self.ruleset.read_generation()
        if generation != self.ruleset.generation:
            self._find_all()
            self.ruleset.generation = generation

    def _find_all(self, also: Sequence[Entry] = ()) -> None:
        present: dict[str, list[KernelRule]] = {}
        for table in dict.fromkeys([*nftext.TABLES, *(each.place for each in self._entries if each.place)]):
            for rule in nfrules.rules(self.ruleset.netlink, table):
                present.setdefault(nftext.identity_of(rule.comment), []).append(rule)
        elements = portmaps.Present(
            self.ruleset.netlink, {port.map for entry in (*self._entries, *also) for port in entry.ports}
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
        """Add a masquerade or port forward without nft; returns False if it needs nft, or a new chain."""
        rules = () if entry.ports or entry.table else cast(Translation, entry.effect).plain()
        if not rules or not self._chains.have_room(chain for chain, _ in rules):
            return False
        comment = nftext.comment(entry.identity, entry.effect.description)
        before = self._chains.state()
        requests = list(plain_rules.frame() if self._chains.begin() else ())
        for kind, rule in rules:
            table, chain, _ = self._chains.place(kind)
            requests.append(nfwrite.add_rule(table, chain, comment, plain_rules.expressions(rule)))
        try:
            nfwrite.apply(self.ruleset.netlink, requests)
        except BaseException as error:
            self._chains.restore(before)
            if isinstance(error, KernelError):  # nft has better error messages
                return False
            raise
        self.ruleset.count_change()
        entry.expected = len(rules)
        return True

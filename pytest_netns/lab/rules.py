"""A namespace's rules for packets that pass: masquerades, port forwards, NAT, firewalls; added and removed one by one.

What is in the kernel decides: where others have changed the ruleset, it is read before anything is said or done. Rules
that others have deleted are gone, and are not made again.
"""

from __future__ import annotations

import ipaddress
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from pytest_netns.errors import KernelError, NetnsError
from pytest_netns.kernel.netlink import conntrack, nfrules
from pytest_netns.kernel.netlink.conntrack import TrackedConnection
from pytest_netns.kernel.netlink.nfrules import KernelRule
from pytest_netns.kernel.netlink.socket import NETLINK_NETFILTER, NetlinkSocket
from pytest_netns.kernel.nft import command
from pytest_netns.kernel.nft.nftables import Nft
from pytest_netns.lab.links import Links
from pytest_netns.parts.gateway import nftext
from pytest_netns.parts.gateway.nftext import Flow, Translation
from pytest_netns.values import IPAddress
from pytest_netns.values.notes import Note

# With every rule the kernel copies the chain it is added to, so chains are kept short.
_RULES_PER_CHAIN = 50
_numbers = itertools.count(1)


class Entry:
    """A rule of a namespace, made of one or more nft rules.

    Attributes:
        identity: at the start of the comments of its nft rules.
        translation: what it does.
        resolve: what it does with the addresses that names lead to now; None where it has no names.
        state: ``"in force"``, ``"removed"``, or ``"deleted"`` where somebody else did that.
    """

    def __init__(self, translation: Translation, resolve: Callable[[], Translation] | None = None) -> None:
        self.identity = f"netns-{next(_numbers)}"
        self.translation = translation
        self.resolve = resolve
        self.state = "in force"
        self.expected = 0
        self.found: list[KernelRule] = []  # once they have been looked for
        self.counted_before = (0, 0)  # by the rules it was made of before


class Rules:
    """The rules of one namespace.

    Args:
        links: the namespace's interfaces.
        prepare: makes the namespace a router that can carry out these rules; called after they were added.

    Attributes:
        given: whether a user has given nft texts.
    """

    def __init__(self, links: Links, prepare: Callable[[Sequence[Translation]], None]) -> None:
        self.given = False
        self._links = links
        self._name = links.network.name
        self._prepare = prepare
        self._lock = threading.RLock()
        self._entries: list[Entry] = []
        self._open_nft: Nft | None = None
        self._open_netlink: NetlinkSocket | None = None
        self._generation = 0  # of the ruleset when we last knew it
        self._frame = 0  # how many of the rules that lead to others' chains there must be; 0: none have been made
        self._chains: dict[str, tuple[str, int]] = {}  # the chain that gets the next rule, and how many it has
        self._chain_numbers = itertools.count(1)

    # -- what there is --------------------------------------------------------------------------------

    @property
    def any(self) -> bool:
        """Whether rules have been added, and not all of them removed."""
        return bool(self._entries)

    def look(self) -> None:
        """Find out which rules are in force, where somebody else may have deleted some."""
        if self._entries:
            with self._lock:
                self._look()

    @property
    def entries(self) -> list[Entry]:
        """The rules that are in force, in the order in which they were added."""
        with self._lock:
            self._look()
            return list(self._entries)

    def counts(self, entry: Entry) -> tuple[int, int]:
        """How many packets a rule has matched, and their bytes.

        Raises:
            NetnsError: it is not in force any more.
        """
        with self._lock:
            self._look()
            self._check_in_force(entry, "read the counter of")
            if not entry.found:
                self._find_all()
            found = [nfrules.counted(self._netlink, rule) for rule in entry.found if rule.table != nftext.TABLE]
        packets, octets = entry.counted_before
        return packets + sum(rule.packets for rule in found), octets + sum(rule.bytes for rule in found)

    def notes(self) -> Iterator[Note]:
        """What is in force, in words."""
        if self._entries:
            yield from (Note(self._name, each.translation.words) for each in self.entries)

    # -- changes --------------------------------------------------------------------------------------

    def add(self, *added: Entry) -> None:
        """Put rules into force, in one transaction.

        Raises:
            RulesetError: nft refused them; nothing has changed.
            UnavailableError: this machine has no nft.
        """
        with self._lock:
            self._nft  # noqa: B018 - first of all, as it says what this machine lacks
            self._look()
            self._change(added)
            self._entries += added
        translations = [entry.translation for entry in added]
        self._prepare(translations)
        self._forget(translations)

    def follow(self) -> None:
        """Names may lead to other addresses now: change the rules that were given by name."""
        with self._lock:
            named = [(each, each.resolve) for each in self._entries if each.resolve is not None]
            if not named or not (present := self.entries):
                return
            for entry, resolve in named:
                translation = resolve()
                if entry not in present or translation == entry.translation:
                    continue
                before = entry.translation
                entry.counted_before = self.counts(entry)
                gone = self._delete(entry)
                entry.translation, entry.expected, entry.found = translation, 0, []
                self._change([entry], gone)
                self._forget([before, translation])

    def remove(self, entry: Entry) -> None:
        """Take a rule away; nothing if that was done before.

        Raises:
            NetnsError: somebody else has deleted it.
        """
        with self._lock:
            if entry.state == "removed":
                return
            self._look()
            self._check_in_force(entry, "remove")
            self._apply(self._delete(entry))
            entry.state = "removed"
            self._entries.remove(entry)
        self._forget([entry.translation])

    def apply_text(self, text: str, *, forget_connections: bool = True) -> str:
        """Have nft carry out a text that a user wrote; returns its output.

        Args:
            text: as nft(8) takes it.
            forget_connections: where it changes rules that translate addresses, have them hold for the connections
                there are too, except TCP connections that are established.
        """
        self.given = True
        if not forget_connections or not self._count_connections():
            return command.apply(self._links.network, text)
        before = nfrules.translations(self._netlink)
        output = command.apply(self._links.network, text)
        if nfrules.translations(self._netlink) != before:
            self._forget_if(lambda connection: not connection.is_established)
        return output

    def ruleset(self) -> str:
        """The whole ruleset as nft writes it."""
        return self._nft.apply("list ruleset")

    def any_ever(self) -> bool:
        """Whether the namespace has ever had nft rules, anybody's."""
        try:
            return nfrules.has_rules(self._netlink)
        except KernelError:  # a kernel without nftables
            return False

    def tracked_connections(self) -> list[TrackedConnection]:
        """The connections tracked now."""
        return conntrack.tracked(self._netlink)

    def forget_connections(self) -> None:
        """Forget all connections, as a router does that is switched off and on."""
        conntrack.forget_all(self._netlink)

    def close(self) -> None:
        """Let go of the namespace; idempotent."""
        with self._lock:
            if self._open_nft is not None:
                self._open_nft.close()
            if self._open_netlink is not None:
                self._open_netlink.close()
            self._open_nft = self._open_netlink = None

    # -- tracked connections --------------------------------------------------------------------------

    def _count_connections(self) -> int:
        try:
            return conntrack.count(self._netlink)
        except KernelError:  # a kernel that does not tell of them: only what is under way stays as it was
            return 0

    def _forget(self, translations: Sequence[Translation]) -> None:
        """Forget the connections that these rules would translate in another way than they are."""
        if any(each.for_datagrams for each in translations) and self._count_connections():
            own = self._addresses()
            self._forget_if(
                lambda connection: (
                    not connection.is_established
                    and any(each.concerns(_flow(connection, own)) for each in translations)
                )
            )

    def _forget_if(self, condition: Callable[[TrackedConnection], bool]) -> None:
        for connection in conntrack.tracked(self._netlink):
            if condition(connection):
                conntrack.forget(self._netlink, connection)

    def _addresses(self) -> frozenset[IPAddress]:
        return frozenset(address.ip for _, address in self._links.addresses())

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
            network = self._links.network  # says so where the lab is closed
            if self._open_netlink is None:
                self._open_netlink = network.open_netlink(NETLINK_NETFILTER)
            return self._open_netlink

    def _apply(self, text: str) -> None:
        self._nft.apply(text)
        self._generation += 1  # another number in the kernel: somebody else has changed something too

    def _change(self, added: Sequence[Entry], text: str = "") -> None:
        """Add the rules of entries; together with another text, in one transaction."""
        frame, chains = self._frame, dict(self._chains)
        try:
            lines = [text, *self._make_frame(), *(line for entry in added for line in self._write(entry))]
            self._apply("".join(lines))
        except BaseException:
            self._frame, self._chains = frame, chains
            raise

    def _delete(self, entry: Entry) -> str:
        """The text that deletes an entry's rules."""
        if not entry.found:
            self._find_all()
        return "".join(f"delete rule inet {each.table} {each.chain} handle {each.handle}\n" for each in entry.found)

    def _look(self) -> None:
        """Where somebody else has changed the ruleset, find out what is left of ours."""
        generation = nfrules.generation(self._netlink)
        if generation != self._generation:
            self._find_all()
            self._generation = generation

    def _find_all(self) -> None:
        present: dict[str, list[KernelRule]] = {}
        for table in nftext.TABLES:
            for rule in nfrules.rules(self._netlink, table):
                present.setdefault(nftext.identity_of(rule.comment), []).append(rule)
        for entry in self._entries:
            entry.found = present.get(entry.identity, [])
            if len(entry.found) < entry.expected:
                entry.state = "deleted"
        self._entries = [each for each in self._entries if each.state == "in force"]
        frame = len(present.get(nftext.FRAME_COMMENT, ()))
        if frame != self._frame:
            self._frame = -1 if frame else 0
            self._chains.clear()

    def _check_in_force(self, entry: Entry, action: str) -> None:
        words = f"cannot {action} {entry.translation.words!r} of namespace {self._name!r}"
        if entry.state == "removed":
            raise NetnsError(f"{words}: it has been removed; add it again")
        if entry.state == "deleted":
            raise NetnsError(
                f"{words}: its nft rules are not in the kernel any more, something else has deleted them "
                "(such as 'nft flush ruleset'); add it again"
            )

    def _make_frame(self) -> Iterator[str]:
        """The text of the tables, where they are not there."""
        if self._frame < 0:
            tables = " and ".join(f"'nft delete table inet {table}'" for table in nftext.TABLES)
            raise NetnsError(
                f"cannot add rules to namespace {self._name!r}: something else has changed the tables of those "
                f"that are there; delete the tables, with {tables}, and add all rules again"
            )
        if not self._frame:
            self._frame = nftext.FRAME_RULES
            yield nftext.frame()

    def _write(self, entry: Entry) -> Iterator[str]:
        """The text of an entry's rules, and of new chains for them."""
        comment = nftext.comment(entry.identity, entry.translation.words)
        for rule in entry.translation.rules():
            entry.expected += 1
            table = nftext.TABLE_OF[rule.chain]
            chain, rules = self._chains.get(rule.chain, ("", _RULES_PER_CHAIN))
            if rules >= _RULES_PER_CHAIN:
                chain, rules = f"{rule.chain}-{next(self._chain_numbers)}", 0
                self._frame += 1
                yield f"add chain inet {table} {chain}\n"
                yield f'add rule inet {table} {rule.chain} jump {chain} comment "{nftext.FRAME_COMMENT}"\n'
            self._chains[rule.chain] = (chain, rules + 1)
            yield f"add rule inet {table} {chain} {rule.text} {comment}\n"


def _flow(connection: TrackedConnection, own: Iterable[IPAddress]) -> Flow:
    destination = ipaddress.ip_address(connection.original.destination)
    return Flow(
        connection.protocol,
        ipaddress.ip_address(connection.original.source),
        destination,
        connection.original.destination_port,
        destination in own,
        connection.has_other_source,
        connection.has_other_destination,
    )

"""The handles of firewalls, their rules, and captive portals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError
from pytest_netns.kernel.netlink import nflog
from pytest_netns.kernel.netlink.nflog import LogReader
from pytest_netns.lab.entries import Entry
from pytest_netns.lab.gateways import GatewayRule
from pytest_netns.lab.links import Links
from pytest_netns.lab.rules import Rules
from pytest_netns.parts.gateway import firewall
from pytest_netns.parts.gateway.firewall import FirewallFilter, FirewallRuleSpec, FirewallSpec
from pytest_netns.values import IPAddress, IPNetwork, Ports

if TYPE_CHECKING:
    from pytest_netns.lab.interface import Interface
    from pytest_netns.lab.namespace import Namespace
    from pytest_netns.packets.dissect import Packet

Place: TypeAlias = "str | IPNetwork | IPAddress | Namespace"
Device: TypeAlias = "str | Interface"
Port: TypeAlias = int | str | range | Ports


class FirewallRule(GatewayRule):
    """A rule of a firewall; returned by `Firewall.accept`, `Firewall.drop` and `Firewall.reject`."""

    __slots__ = ("_links", "_log", "_spec")

    def __init__(self, rules: Rules, entry: Entry, spec: FirewallRuleSpec, links: Links, log: LogReader | None) -> None:
        super().__init__(rules, entry)
        self._spec = spec
        self._links = links
        self._log = log

    @property
    def spec(self) -> FirewallRuleSpec:
        """The specification it was created from."""
        return self._spec

    @property
    def log(self) -> list[Packet]:
        """The last 10,000 packets that it matched, from the IP header on.

        Raises:
            InvalidTopologyError: it was added without ``log=True``.
        """
        from pytest_netns.packets.dissect import Packet

        if self._log is None:
            raise InvalidTopologyError(
                f"cannot read the log of {self._entry.effect.description!r}: it keeps none; add it with log=True"
            )
        names = self._links.index_names()
        return [
            Packet(
                each.time or time.time(),
                self._links.name,
                names.get(each.incoming or each.outgoing, ""),
                not each.incoming,
                each.data,
                ethernet=False,
            )
            for each in self._log.packets()
        ]


class Firewall(GatewayRule):
    """A firewall of a namespace; returned by `Namespace.firewall`. It counts the packets that its policy decided."""

    __slots__ = ("_added", "_links", "_name_of", "_resolve", "_spec", "_watch")

    def __init__(
        self,
        rules: Rules,
        entry: Entry,
        spec: FirewallSpec,
        links: Links,
        resolve: Callable[[str], tuple[IPAddress, ...]],
        watch: Callable[[], None],
        name_of: Callable[[object], Any],
    ) -> None:
        super().__init__(rules, entry)
        self._spec = spec
        self._added: list[FirewallRule] = []
        self._links = links
        self._resolve = resolve
        self._watch = watch
        self._name_of = name_of

    @property
    def spec(self) -> FirewallSpec:
        """The specification it was created from."""
        return self._spec

    @property
    def rules(self) -> list[FirewallRule]:
        """Its rules, in order; the first match decides."""
        return list(self._added)

    def accept(
        self,
        *,
        source: Place | Iterable[Place] = (),
        destination: Place | Iterable[Place] = (),
        protocol: str | Iterable[str] = (),
        port: Port | Iterable[Port] = (),
        incoming: Device | Iterable[Device] = (),
        outgoing: Device | Iterable[Device] = (),
        log: bool = False,
    ) -> FirewallRule:
        """Accept packets that match all criteria, unless an earlier rule matches.

        Args:
            source, destination: addresses, networks, namespaces or their names; one or several. A namespace stands
                for all of its addresses, including later ones.
            protocol: ``"tcp"``, ``"udp"``, ``"icmp"`` (ICMPv6 too), ``"sctp"``, ``"esp"`` ...; default with a port:
                tcp and udp.
            port: the destination port: numbers or ranges such as ``"5000-5010"``.
            incoming, outgoing: the interfaces by which packets arrive and leave.
            log: record the packets that it matches, see `FirewallRule.log`.

        Returns:
            A handle with ``packets``, ``bytes``, ``log`` and ``remove()``.
        """
        return self._add("accept", source, destination, protocol, port, incoming, outgoing, log)

    def drop(
        self,
        *,
        source: Place | Iterable[Place] = (),
        destination: Place | Iterable[Place] = (),
        protocol: str | Iterable[str] = (),
        port: Port | Iterable[Port] = (),
        incoming: Device | Iterable[Device] = (),
        outgoing: Device | Iterable[Device] = (),
        log: bool = False,
    ) -> FirewallRule:
        """Drop packets silently: the sender waits until it times out. The arguments are those of `accept`."""
        return self._add("drop", source, destination, protocol, port, incoming, outgoing, log)

    def reject(
        self,
        *,
        source: Place | Iterable[Place] = (),
        destination: Place | Iterable[Place] = (),
        protocol: str | Iterable[str] = (),
        port: Port | Iterable[Port] = (),
        incoming: Device | Iterable[Device] = (),
        outgoing: Device | Iterable[Device] = (),
        log: bool = False,
    ) -> FirewallRule:
        """Reject packets: with a TCP reset, or with ICMP "administratively prohibited". The arguments are those of `accept`."""
        return self._add("reject", source, destination, protocol, port, incoming, outgoing, log)

    def add(self, spec: FirewallRuleSpec) -> FirewallRule:
        """Add a rule from its specification; see `accept`."""
        spec.check_values()
        for _, mistake in firewall.mistakes(spec, self.spec.hook):
            raise InvalidTopologyError(mistake)
        for interface in (*spec.incoming, *spec.outgoing):
            self._links.find(interface)
        log = None
        group = self._rules.ruleset.next_log_group() if spec.log else None
        if group is not None:
            log = nflog.open_log(self._rules.ruleset.open_netlink(), group)

        def resolve(_: object = None) -> FirewallFilter:
            return FirewallFilter(
                spec,
                self._entry.table,
                self.spec.hook,
                self._addresses(spec.source),
                self._addresses(spec.destination),
                group,
            )

        named = any(isinstance(each, str) for each in (*spec.source, *spec.destination))
        try:
            entry = Entry(resolve(), resolve if named else None)
            entry.place = self._entry.table
            self._rules.check_in_force(self._entry, "add a rule to")
            self._rules.add(entry)
        except BaseException:
            if log is not None:
                log.close()
            raise
        if named:
            self._watch()
        if log is not None:
            self._rules.ruleset.close_later(log.close)
        rule = FirewallRule(self._rules, entry, spec, self._links, log)
        self._added.append(rule)
        return rule

    def _add(
        self,
        verdict: str,
        source: Place | Iterable[Place],
        destination: Place | Iterable[Place],
        protocol: str | Iterable[str],
        port: Port | Iterable[Port],
        incoming: Device | Iterable[Device],
        outgoing: Device | Iterable[Device],
        log: bool,
    ) -> FirewallRule:
        spec = FirewallRuleSpec(
            verdict,
            source=self._name_of(source),
            destination=self._name_of(destination),
            protocol=protocol,
            port=port,
            incoming=self._name_of(incoming),
            outgoing=self._name_of(outgoing),
            log=log,
        )
        return self.add(spec)

    def _addresses(self, places: tuple[IPNetwork | str, ...]) -> tuple[IPNetwork, ...] | None:
        """The networks, and the addresses of names; None for any."""
        if not places:
            return None
        networks: list[IPNetwork] = []
        for place in places:
            if isinstance(place, str):
                networks += [values.parse_network(address) for address in self._resolve(place)]
            else:
                networks.append(place)
        return tuple(networks)


class CaptivePortal(GatewayRule):
    """A portal that clients see until they are admitted; returned by `Namespace.captive_portal`."""

    __slots__ = ("_addresses",)

    def __init__(self, rules: Rules, entry: Entry, addresses: Callable[[object], list[IPAddress]]) -> None:
        super().__init__(rules, entry)
        self._addresses = addresses

    def admit(self, client: Place) -> None:
        """Let a client pass, as after a login: an address, a namespace or its name; idempotent."""
        for address in self._addresses(client):
            self._rules.element(self._entry, "admitted", address, add=True)
        self._rules.ruleset.forget_connections([self._entry.effect])

    def expel(self, client: Place) -> None:
        """Show a client the portal again; idempotent."""
        for address in self._addresses(client):
            self._rules.element(self._entry, "admitted", address, add=False)
        self._rules.ruleset.forget_connections([self._entry.effect])

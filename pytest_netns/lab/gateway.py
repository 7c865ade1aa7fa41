"""A gateway's NAT, port forwards and firewalls: takes specifications, returns handles."""

from __future__ import annotations

import functools
import ipaddress
import itertools
from collections.abc import Callable, Iterable, Sequence

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.kernel.nft import prefixes
from pytest_netns.lab.entries import AddressesOf, Entry, Resolve
from pytest_netns.lab.firewalls import CaptivePortal, Firewall
from pytest_netns.lab.gateways import GatewayRule, Masquerade, Nat, PortForward, PrefixTranslation, Snat
from pytest_netns.lab.hosts import Hosts
from pytest_netns.lab.links import Links
from pytest_netns.lab.rules import Rules
from pytest_netns.parts.gateway import forward, nat, snat
from pytest_netns.parts.gateway.firewall import FirewallSpec, FirewallTable
from pytest_netns.parts.gateway.forward import PortForwarding, PortForwardSpec
from pytest_netns.parts.gateway.masquerade import MasqueradeSpec, Masquerading
from pytest_netns.parts.gateway.nat import NatSpec
from pytest_netns.parts.gateway.nattable import Natting
from pytest_netns.parts.gateway.policies import Portal, TooBigBlock
from pytest_netns.parts.gateway.port_index import PortIndex
from pytest_netns.parts.gateway.snat import OneToOne, OneToOneSpec, SnatSpec, SourceTranslation
from pytest_netns.values import IPAddress, IPNetwork, Target, parse_address

_prefix_numbers = itertools.count(1)


class Gateway:
    """The NAT, port forwards and firewalls of one namespace.

    Args:
        rules: its rules in the kernel.
        links: its interfaces.
        names: resolves host names.
    """

    def __init__(self, rules: Rules, links: Links, names: Hosts) -> None:
        self._rules = rules
        self._links = links
        self._names = names
        self._name = links.name
        self._masquerades: dict[Masquerading, Entry] = {}
        self._forwards: PortIndex[Entry] = PortIndex()

    def masquerade(self, spec: MasqueradeSpec) -> Masquerade:
        """Masquerade a network."""
        (handle,) = self.add([spec])
        assert isinstance(handle, Masquerade)
        return handle

    def forward_port(self, spec: PortForwardSpec) -> PortForward:
        """Forward ports."""
        (handle,) = self.add([spec])
        assert isinstance(handle, PortForward)
        return handle

    def add(self, specs: Sequence[MasqueradeSpec | PortForwardSpec]) -> list[GatewayRule]:
        """Apply specifications, all or none; a masquerade that already exists is kept.

        That takes one transaction for nft rules, and one for forwards of a single port, which are elements of maps.

        Raises:
            InvalidTopologyError: a value cannot be part of a rule, or two specifications contradict each other.
        """
        handles: list[GatewayRule] = []
        new: list[Entry] = []
        addresses_of = functools.cache(self._addresses)  # a thousand forwards may lead to one namespace
        # Not remembered before they are in force: the rules may be refused.
        forwards: PortIndex[Entry] = PortIndex()
        masquerades: dict[Masquerading, Entry] = {}
        for spec in specs:
            spec.check_values()
            if isinstance(spec, PortForwardSpec):
                self._check(spec, forwards)
                entry = self._forward(spec, addresses_of)
                forwards.add(spec, entry)
                handles.append(PortForward(self._rules, entry, spec))
                new.append(entry)
            else:
                translation = self._masquerade(spec)
                self._rules.refresh()
                known = masquerades.get(translation) or self._masquerades.get(translation)
                if known is None or known.state != "in force":
                    known = masquerades[translation] = Entry(translation)
                    new.append(known)
                handles.append(Masquerade(self._rules, known))
        if new:
            self._rules.add(*new)
        self._forwards.update(forwards)
        self._masquerades |= masquerades
        return handles

    def _check(self, spec: PortForwardSpec, others: PortIndex[Entry]) -> None:
        for _, mistake in forward.mistakes(spec):
            raise InvalidTopologyError(mistake)
        for index in (self._forwards, others):
            for other, entry in index.conflicting(spec):
                self._rules.refresh()
                if index is others or entry.state == "in force":
                    raise InvalidTopologyError(forward.contradiction(spec, other))

    def _masquerade(self, spec: MasqueradeSpec) -> Masquerading:
        return Masquerading(spec.source, None if spec.out is None else self._links.find(spec.out).name)

    def _forward(self, spec: PortForwardSpec, addresses_of: AddressesOf) -> Entry:
        if spec.address is not None:
            own_addresses = self._links.own_addresses()
            if not any(spec.address in each.network for each in own_addresses):
                raise InvalidTopologyError(
                    f"cannot forward port {spec.port} of namespace {self._name!r} at {spec.address}: it is in none of "
                    f"its networks; it has {', '.join(map(str, own_addresses)) or 'no address'}"
                )
        has_names = False
        addresses: list[tuple[IPAddress, ...]] = []
        for target in spec.to:
            host = target.host
            if not isinstance(host, str):  # not looked up: hashing an address takes longer than everything else here
                addresses.append((host,))
                continue
            has_names = True
            addresses.append(addresses_of(host))
            if not addresses[-1]:
                raise InvalidTopologyError(f"cannot use namespace {host!r} as a target: it has no address yet")
        translation = PortForwarding(spec, tuple(addresses))
        if not translation.has_common_version:
            raise InvalidTopologyError(
                f"cannot forward {translation.description!r} of namespace {self._name!r}: source, address and target have no "
                "IP version in common"
            )
        if not has_names:
            return Entry(translation)
        self._names.watch(self._follow)
        return Entry(translation, lambda now: PortForwarding(spec, tuple([now(target.host) for target in spec.to])))

    def _follow(self) -> None:
        """Update the rules that refer to host names: each name is looked up once, for however many rules."""
        self._rules.follow(functools.cache(self._addresses))

    def _addresses(self, host: IPAddress | str) -> tuple[IPAddress, ...]:
        return tuple(self._names.best_addresses(self._name, host)) if isinstance(host, str) else (host,)

    # -- SNAT and 1:1 NAT -----------------------------------------------------------------------------

    def snat(self, spec: SnatSpec) -> Snat:
        """Translate the source address of packets."""
        self._check_part(spec, snat.mistakes(spec))
        out = None if spec.out is None else self._links.find(spec.out).name
        return self._translate(spec, SourceTranslation(spec.source, spec.to, out), spec.to, out)

    def one_to_one(self, spec: OneToOneSpec) -> Snat:
        """Map an outer address or network to an inner one."""
        self._check_part(spec, snat.mistakes(spec))
        out = None if spec.out is None else self._links.find(spec.out).name
        outer = spec.outer.network_address if spec.outer.num_addresses == 1 else None
        if out is None and outer is not None:
            near = self._near(outer)
            out = near and self._links.link(near[0]).name
        translation = OneToOne(spec, self._inner(spec, self._addresses), out)
        if not isinstance(spec.inner, str):
            return self._translate(spec, translation, outer, out)
        handle = self._translate(
            spec, translation, outer, out, lambda now: OneToOne(spec, self._inner(spec, now, translation.inner), out)
        )
        self._names.watch(self._follow)
        return handle

    @staticmethod
    def _inner(spec: OneToOneSpec, addresses_of: AddressesOf, otherwise: IPNetwork | None = None) -> IPNetwork:
        """The inner side; for a namespace that has lost its address, the original one."""
        if not isinstance(spec.inner, str):
            return spec.inner
        for address in addresses_of(spec.inner):
            if address.version == spec.outer.version:
                return ipaddress.ip_network(address)
        if otherwise is not None:
            return otherwise
        raise InvalidTopologyError(
            f"cannot use namespace {spec.inner!r} as inner side of '{spec.outer}': it has no IPv{spec.outer.version} "
            "address yet"
        )

    def _translate(
        self,
        spec: SnatSpec | OneToOneSpec,
        translation: SourceTranslation | OneToOne,
        outer: IPAddress | None,
        out: str | None,
        resolve: Resolve | None = None,
    ) -> Snat:
        entry = Entry(translation, resolve)
        undo = self._add_outer_address(outer, out) if outer is not None else _nothing
        try:
            self._rules.add(entry)
        except BaseException:
            undo()
            raise
        return Snat(self._rules, entry, spec, undo)

    def _near(self, address: IPAddress) -> tuple[int, int] | None:
        """The index of the interface whose network contains an address, and the prefix length."""
        for index, interface_address in self._links.addresses():
            if (
                address in interface_address.network
                and interface_address.network.num_addresses > 1
                and not interface_address.is_loopback
            ):
                return index, interface_address.network.prefixlen
        return None

    def _add_outer_address(self, address: IPAddress, out: str | None) -> Callable[[], None]:
        """Add an address that outer hosts expect on their own network; returns the function that removes it."""
        near = self._near(address)
        if near is None or any(interface_address.ip == address for _, interface_address in self._links.addresses()):
            return _nothing  # it already exists, or outer routers have a route to this namespace
        self._links.infos()
        link = self._links.find(out) if out is not None else self._links.link(near[0])
        added = ipaddress.ip_interface(f"{address}/{near[1]}")
        self._links.add_address(link, added)
        return lambda: self._links.remove_address(link, added)

    def nptv6(
        self, inner: IPNetwork, outer: IPNetwork, out: str, forget: Callable[[PrefixTranslation], None]
    ) -> PrefixTranslation:
        """Translate IPv6 prefixes."""
        for _, mistake in snat.prefix_mistakes(inner, outer):
            raise InvalidTopologyError(mistake)
        rule = prefixes.Rule(f"netns-npt-{next(_prefix_numbers)}", str(inner), str(outer), self._links.find(out).name)
        prefixes.add(self._links.network, rule)
        return PrefixTranslation(self._links, rule, forget)

    # -- NAT of devices -------------------------------------------------------------------------------

    def nat(self, spec: NatSpec) -> Nat:
        """Translate as a device does; replaces earlier NAT of the same network."""
        self._check_part(spec, nat.mistakes(spec))
        out = self._links.find(spec.out).name
        kind = nat.kind_of(spec)
        replaced: list[Entry] = []
        for entry in self._rules.entries if self._rules.any else []:
            effect = entry.effect
            if isinstance(effect, Natting | Masquerading) and effect.out in (out, None):
                other = NatSpec(self._name, effect.source, out)
                if nat.conflicts(spec, other) and isinstance(effect, Natting):
                    raise InvalidTopologyError(nat.contradiction(spec, other))
                if effect.source == spec.source:
                    replaced.append(entry)
        entry = Entry(Natting(spec.source, out, kind), kind="nat")
        self._rules.add(entry, instead_of=replaced)
        return Nat(self._rules, entry, spec, kind)

    # -- firewalls ------------------------------------------------------------------------------------

    def firewall(self, spec: FirewallSpec, name_of: Callable[[object], object] = lambda value: value) -> Firewall:
        """Filter packets."""
        spec.check_values()
        entry = Entry(FirewallTable(spec), kind="firewall")
        self._rules.add(entry)
        made = Firewall(
            self._rules,
            entry,
            spec,
            self._links,
            lambda name: tuple(self._names.addresses(name)),
            lambda: self._names.watch(self._follow),
            name_of,
        )
        try:
            for rule in spec.rules:
                made.add(rule)
        except BaseException:
            made.remove()
            raise
        return made

    def block_icmp_too_big(self) -> GatewayRule:
        """Drop ICMP errors about packets that exceed a path's MTU."""
        entry = Entry(TooBigBlock(), kind="too_big")
        self._rules.add(entry)
        return GatewayRule(self._rules, entry)

    def captive_portal(self, source: IPNetwork, to: Target, name_of: Callable[[object], object]) -> CaptivePortal:
        """Show clients a portal until they are admitted."""
        addresses = self._addresses(to.host)
        if not any(address.version == source.version for address in addresses):
            raise InvalidTopologyError(
                f"cannot use {str(to)!r} as portal of {source}: it has no IPv{source.version} address"
            )
        if to.port is not None and not isinstance(to.port, int):
            raise InvalidTopologyError(f"cannot use {str(to)!r} as portal: give one port, such as '{to.host}:80'")
        entry = Entry(Portal(source, addresses, to.port or 80, str(to)), kind="portal")
        self._rules.add(entry)

        def clients(given: object) -> list[IPAddress]:
            client = name_of(given)
            if isinstance(client, str) and self._names.knows(client):
                return [each for each in self._names.addresses(client) if each.version == source.version]
            return [parse_address(client, "client")]

        return CaptivePortal(self._rules, entry, clients)

    def _check_part(self, spec: SnatSpec | OneToOneSpec | NatSpec, mistakes: Iterable[tuple[str, str]]) -> None:
        spec.check_values()
        for _, mistake in mistakes:
            raise InvalidTopologyError(mistake)


def _nothing() -> None:
    """Do nothing: there is nothing to undo."""

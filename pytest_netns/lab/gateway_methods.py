"""The methods of Namespace for gateways: NAT, port forwards, firewalls, nft.

Most labs have no gateway, so what its rules need is imported with the first of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError
from pytest_netns.kernel.system.lazy import created_on_use
from pytest_netns.lab.interface import Interface
from pytest_netns.lab.route_methods import RouteMethods
from pytest_netns.values import IPAddress, IPNetwork
from pytest_netns.values.shapes import is_list, is_set

if TYPE_CHECKING:
    from pytest_netns.lab.firewalls import CaptivePortal, Firewall
    from pytest_netns.lab.gateway import Gateway
    from pytest_netns.lab.gateways import GatewayRule, Masquerade, Nat, PortForward, PrefixTranslation, Snat
    from pytest_netns.lab.namespace import Namespace
    from pytest_netns.lab.rules import Rules
    from pytest_netns.parts.gateway.firewall import FirewallRuleSpec
    from pytest_netns.parts.gateway.nftext import Effect

# The target of a port forward: an address or namespace, and ports.
Target: TypeAlias = "str | IPAddress | values.Target | Namespace"


class GatewayMethods(RouteMethods):
    """The part of `Namespace` that makes it a gateway."""

    __slots__ = ("_gateway", "_packet_rules")

    @created_on_use
    def packet_rules(self) -> Rules:
        """Its rules for forwarded packets, as they are in the kernel."""
        from pytest_netns.lab.rules import Rules

        return Rules(self.links, self._become_router)

    @created_on_use
    def gateway(self) -> Gateway:
        """Creates the rules."""
        from pytest_netns.lab.gateway import Gateway

        return Gateway(self.packet_rules, self.links, self.lab.names)

    def close_rules(self) -> None:
        """Close the sockets of its rules, if any."""
        if GatewayMethods.packet_rules.is_created(self):
            self.packet_rules.ruleset.close()

    def _become_router(self, effects: Sequence[Effect]) -> None:
        """Set up what rules need."""
        raise NotImplementedError

    def enable_forwarding(self) -> None:
        """Make this namespace a router, for IPv4 and IPv6."""
        raise NotImplementedError

    def masquerade(self, source: str | IPNetwork, out: Interface | str | None = None) -> Masquerade:
        """Give outgoing packets from a network this namespace's own address, and forward them.

        This is not the NAT of a home router. It keeps source ports where possible, but an unsolicited packet reaches
        this namespace itself; its connection occupies the port, and the peer's hole punching fails. For the behaviour
        of real devices use `nat` (docs/gateways.md).

        Args:
            source: the network behind this gateway, such as ``"192.168.15.0/24"``; IPv4 or IPv6.
            out: the interface they leave by; default: any.

        Returns:
            A handle with ``packets``, ``bytes`` and ``remove()``; the same network and interface again change nothing.
        """
        from pytest_netns.parts.gateway.masquerade import MasqueradeSpec

        network = values.parse_network(source, "masquerade source")
        return self.gateway.masquerade(MasqueradeSpec(self.name, network, out=self._name_of(out)))

    def forward_port(
        self,
        port: int | str | range | values.PortRange,
        to: Target | Sequence[Target],
        protocol: str | Iterable[str] = "tcp",
        *,
        source: str | IPNetwork | IPAddress | None = None,
        address: str | IPAddress | None = None,
    ) -> PortForward:
        """Forward connections to a port of this namespace to another address (DNAT).

        The port is reachable from outside, from this namespace, and from inside through the outer address (hairpin).
        If the addresses of a target that is given by name change, the forward follows.

        Args:
            port: 1 to 65535, at any of this namespace's addresses; or a range: ``"5000-5010"``, ``range(5000, 5011)``.
            to: ``"192.168.15.2:80"``, ``"[fd00::2]:80"`` or ``"blue:80"``; without a port, the same port.
                ``"blue:6000-6010"`` shifts a range of the same length. With several targets, connections alternate.
            protocol: ``"tcp"``, ``"udp"``, or both: ``("tcp", "udp")``.
            source: only for clients in this network.
            address: only at this one of the namespace's addresses.

        Returns:
            A handle with ``packets``, ``bytes`` and ``remove()``.

        Raises:
            InvalidTopologyError: the port is already forwarded, or the ranges differ in length; names both.
        """
        from pytest_netns.parts.gateway.forward import PortForwardSpec

        several = to if isinstance(to, Sequence) and not isinstance(to, str) else (to,)
        targets = [self._name_of_member(each) for each in several]
        spec = PortForwardSpec(self.name, port, targets, protocol=protocol, source=source, address=address)
        return self.gateway.forward_port(spec)

    def snat(self, source: Target | IPNetwork, to: str | IPAddress, *, out: Interface | str | None = None) -> Snat:
        """Give outgoing packets from an address or network another source address, and forward them.

        If ``to`` is an unused address in a network of this namespace, it is added to the interface there, until
        `Snat.remove`.

        Args:
            source: the address or network behind this gateway; or a namespace or its name.
            to: their new source address.
            out: the interface they leave by; default: any.

        Returns:
            A handle with ``packets``, ``bytes`` and ``remove()``.
        """
        from pytest_netns.parts.gateway.snat import SnatSpec

        address = self._address_of(source)
        return self.gateway.snat(SnatSpec(self.name, address, to, out=self._name_of(out)))

    def nat_1to1(
        self,
        outer: str | IPAddress | IPNetwork,
        inner: Target | IPNetwork,
        *,
        out: Interface | str | None = None,
    ) -> Snat:
        """Map an outer address to an inner one, in both directions; or a network to one of the same size (netmap).

        An outer address in a network of this namespace is added to the interface there, as with `snat`; an outer network
        must be routed to this namespace. For stateless IPv6 prefix translation (RFC 6296) see `nptv6`.

        Args:
            outer: the address or network used outside: ``"192.168.1.20"`` or ``"192.168.1.128/25"``.
            inner: the address, namespace (or its name) or network inside.
            out: the interface of the outer side; default: the one whose network contains the outer address.

        Returns:
            A handle with ``packets``, ``bytes`` and ``remove()``.
        """
        from pytest_netns.parts.gateway.snat import OneToOneSpec

        name = self._name_of_member(inner)
        return self.gateway.one_to_one(OneToOneSpec(self.name, outer, name, out=self._name_of(out)))

    def nptv6(self, inner: str | IPNetwork, outer: str | IPNetwork, *, out: Interface | str) -> PrefixTranslation:
        """Translate between an inner and an outer IPv6 prefix, in both directions, and forward packets; RFC 6296.

        It is stateless, and no checksum changes: the part of the address after the prefix is adjusted instead. The
        outer prefix must be routed to this namespace.

        Args:
            inner: the prefix behind this gateway, such as ``"fd00:1::/48"``; at most 64 bits.
            outer: the prefix used outside, of the same length.
            out: the interface of the outer side.

        Returns:
            A handle with ``packets``, ``bytes`` and ``remove()``.

        Raises:
            UnavailableError: ip6tables is not installed, or the kernel lacks its targets SNPT and DNPT.
        """
        networks = (values.parse_network(inner, "inner prefix"), values.parse_network(outer, "outer prefix"))
        made = self.gateway.nptv6(*networks, self.link_of(out).name, self.lab.notes.discard)
        self.enable_forwarding()
        self.lab.notes.add(made)
        return made

    def nat(
        self,
        source: str | IPNetwork,
        out: Interface | str,
        *,
        like: str | None = None,
        mapping: str | None = None,
        filtering: str | None = None,
        hairpin: bool | None = None,
        ports: tuple[int, int] | str | range | values.PortRange | None = None,
        timeout: int | None = None,
    ) -> Nat:
        """Translate addresses and ports as a device does, in the terms of RFC 4787, and forward packets.

        ``like`` names a common kind: ``"home"`` (the default), ``"full-cone"``, ``"address-restricted"``,
        ``"port-restricted"``, ``"symmetric"`` or ``"carrier"``; docs/gateways.md shows what each does to hole punching.
        It replaces a `masquerade` or `nat` of the same network: call it again to change the kind.

        Args:
            source: the network behind this gateway; IPv4 or IPv6.
            out: the interface of its outer side.
            mapping: which packets of an inner endpoint (address and port) share an outer port:
                ``"endpoint-independent"``: all; ``"address-dependent"``: those to one address;
                ``"address-and-port-dependent"``: those to one address and port.
            filtering: the sources whose packets to that port are let in: ``"endpoint-independent"``: any;
                ``"address-dependent"``: addresses that the endpoint has sent to; ``"address-and-port-dependent"``:
                addresses and ports that it has sent to.
            hairpin: whether inner hosts reach each other at their outer addresses.
            ports: the outer ports.
            timeout: seconds after which an unused UDP mapping expires.

        Returns:
            A handle with ``packets``, ``bytes``, ``kind`` and ``remove()``.
        """
        from pytest_netns.parts.gateway.nat import NatSpec

        spec = NatSpec(
            self.name,
            values.parse_network(source, "NAT source"),
            self.link_of(out).name,
            like=like,
            mapping=mapping,
            filtering=filtering,
            hairpin=hairpin,
            ports=ports,
            timeout=timeout,
        )
        return self.gateway.nat(spec)

    def firewall(
        self,
        policy: str = "drop",
        *,
        hook: str = "forward",
        stateful: bool = True,
        like: str | None = None,
        outside: Interface | str | None = None,
    ) -> Firewall:
        """Filter packets; the policy applies to packets that no rule matches::

            fw = gw.firewall(policy="drop")
            web = fw.accept(destination="dmz", protocol="tcp", port=443)
            assert web.packets

        On ``"input"`` and ``"output"`` packets of the loopback interface and neighbour discovery always pass.

        Args:
            policy: ``"accept"``, ``"drop"`` (silently) or ``"reject"`` (with an error to the sender).
            hook: ``"forward"``: forwarded packets; ``"input"`` and ``"output"``: packets to and from this namespace.
            stateful: accept the replies to accepted packets, and ICMP errors about them.
            like: ready-made rules: ``"home"`` (RFC 6092: everything out, replies and IPsec in) or ``"web-only"`` (tcp 80
                and 443, udp 53).
            outside: for ``like``, the interface of the outer side.

        Returns:
            A handle with ``accept``, ``drop`` and ``reject``, which add rules, ``packets``, ``bytes`` and ``remove()``.
        """
        from pytest_netns.parts.gateway.firewall import FirewallSpec
        from pytest_netns.parts.gateway.policies import POLICIES

        rules: list[FirewallRuleSpec] = []
        if like is not None:
            values.parse_choice(like, POLICIES, "ready firewall")
            if outside is None:
                raise InvalidTopologyError(f"cannot use like={like!r}: it needs outside=, the outer interface")
            rules = POLICIES[like](self.link_of(outside).name)
        spec = FirewallSpec(self.name, policy=policy, hook=hook, stateful=stateful, rules=rules)
        return self.gateway.firewall(spec, self._plain)

    def block_icmp_too_big(self) -> GatewayRule:
        """Drop ICMP's "packet too big" and "fragmentation needed": a path-MTU black hole (RFC 2923 section 2.1).

        Returns:
            A handle with ``packets``, ``bytes`` and ``remove()``.
        """
        return self.gateway.block_icmp_too_big()

    def captive_portal(self, source: str | IPNetwork, to: Target) -> CaptivePortal:
        """Redirect the web requests of clients to a portal and reject their other packets, until they are admitted.

        Args:
            source: the network of the clients.
            to: the portal's server, such as ``"portal:80"``.

        Returns:
            A handle with ``admit(client)``, ``expel(client)``, ``packets``, ``bytes`` and ``remove()``.
        """
        place = values.parse_target(self._name_of_member(to))
        return self.gateway.captive_portal(values.parse_network(source, "network of clients"), place, self._plain)

    def nft(self, text: str, *, forget_connections: bool = True) -> str:
        """Apply any nft ruleset text, nft(8), in one transaction; returns what nft prints.

        It runs the program nft, since some texts crash libnftables.

        Args:
            text: the ruleset, such as ``"table inet mine { ... }"`` or ``"list ruleset"``.
            forget_connections: if the text changes NAT rules, apply them to tracked connections too, except for
                established TCP connections; False leaves all tracked connections as they are.

        Raises:
            RulesetError: nft refused it; has nft's message and position.
        """
        return self.packet_rules.ruleset.apply_user_text(text, forget_connections=forget_connections)

    def ruleset(self) -> str:
        """The whole nft ruleset as text."""
        return self.packet_rules.ruleset.text()

    def forget_connections(self) -> None:
        """Forget all tracked connections and NAT mappings, as a router does that is restarted."""
        self.packet_rules.forget_connections()

    def _name_of(self, interface: Interface | str | None) -> str | None:
        return None if interface is None else self.link_of(interface).name

    def _address_of(self, place: Target | IPNetwork) -> Any:
        """The only address of a namespace, given by itself or its name; other values unchanged."""
        name = self._name_of_member(place)
        if isinstance(name, str) and self.lab.names.knows(name):
            (address, *_) = self.lab.names.best_addresses(self.name, name)
            return address
        return name

    def _plain(self, value: object) -> object:
        """One or several handles, replaced by their names."""
        if isinstance(value, Interface):
            return self.link_of(value).name
        if isinstance(value, GatewayMethods):
            return self._name_of_member(value)
        return [self._plain(each) for each in value] if is_list(value) or is_set(value) else value

    def _name_of_member(self, target: Target | IPNetwork | GatewayMethods) -> Any:
        if isinstance(target, GatewayMethods):
            self.lab.check_member(target)
            return target.name
        return target

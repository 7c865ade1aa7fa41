"""Network: the part of a namespace's handle that is about interfaces, routes, rules and neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError
from pytest_netns.kernel.netlink import rtneighbours, rtroutes, rtrules
from pytest_netns.lab import hosts, routes, switching
from pytest_netns.lab.interface import AddressArgument, Interface, handle, parse_addresses
from pytest_netns.lab.links import Link, Links
from pytest_netns.lab.routes import Via
from pytest_netns.lab.routing import Neighbour, Route, Rule, of_table, rule_of
from pytest_netns.lab.switching import Together
from pytest_netns.parts.routes import parse_table
from pytest_netns.values import IPAddress, IPInterface, IPNetwork

if TYPE_CHECKING:
    from pyroute2 import NDB, AsyncIPRoute, Conntrack, IPRoute

    from pytest_netns.lab.lab import Lab

T = TypeVar("T")

#: A gateway: an address, or a namespace (or its name) that shares a network; several for a multipath route.
Gateways: TypeAlias = "str | IPAddress | Network | Sequence[str | IPAddress | Network] | None"


class Network:
    """The interfaces, routes, rules and neighbours of a namespace."""

    __slots__ = ("_name", "links")

    _name: str
    links: Links

    @property
    def name(self) -> str:
        """The namespace's name."""
        return self._name

    @property
    def lab(self) -> Lab:
        """The lab it belongs to."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        """Its first IPv4 address that is not of the loopback interface, without prefix length: ``f"http://{blue.address}/"``.

        Raises:
            InvalidTopologyError: it has none.
        """
        found = next((each for each in self.addresses if each.version == 4), None)
        if found is None:
            raise InvalidTopologyError(f"cannot tell the address of namespace {self.name!r}: it has no IPv4 address")
        return str(found.ip)

    @property
    def addresses(self) -> list[IPInterface]:
        """All addresses with prefix length, as they are now, but those of the loopback interface and link-local ones."""
        return hosts.global_addresses(self.links.network)

    @property
    def interfaces(self) -> Mapping[str, Interface]:
        """All interfaces by name, as they are now."""
        return {info.name: handle(self.links.link(info.index), info.kind) for info in self.links.infos()}

    def add_interface(
        self,
        name: str,
        *,
        kind: str,
        link: Interface | str | None = None,
        addresses: AddressArgument = None,
        master: Interface | str | None = None,
        mtu: int | None = None,
        mac: str | None = None,
        up: bool = True,
        **options: Any,
    ) -> Interface:
        """Make an interface of any kind; cables are made by ``lab.add_veth`` and ``bridge.attach``::

            ns.add_interface("eth0.10", kind="vlan", link="eth0", vlan_id=10, addresses="10.0.10.1/24")

        Args:
            name: what it is called.
            kind: ``"vlan"``, ``"vxlan"``, ``"dummy"``, ``"gre"``, ``"bond"``, ``"wireguard"`` ...; docs/interfaces.md has all.
            link: the interface it is put on, of this namespace or, given as such, of another one.
            addresses: one with prefix length, or several.
            master: the bridge, bond or VRF it becomes a member of.
            mtu: in bytes.
            mac: MAC address; by default it follows from the names of namespace and interface.
            up: whether it is switched on.
            options: of the kind, by iproute2's names (``id=10``) or the kernel's (``vlan_id=10``).

        Raises:
            InvalidTopologyError: there is no such kind or option, or a value cannot be; names the valid ones.
            UnavailableError: this kernel does not have the kind; says what to do about it.
            KernelError: the kernel refused.
        """
        from pytest_netns.lab import making

        on = link.link if isinstance(link, Interface) else None if link is None else self.links.find(link)
        if on is not None:
            self.links.check_same_lab(on.home)
        want = making.wanted(
            kind,
            name,
            options,
            on=on,
            mtu=mtu,
            mac=mac,
            master=None if master is None else self.link_of(master),
            addresses=parse_addresses(addresses),
            up=up,
        )
        return handle(making.add_link(self.links, want), kind)

    def unplug(self) -> Together:
        """Pull the plugs of all cables: they lose their carrier, until `plug`, the end of a ``with`` block, or ``lab.heal()``.

        The far ends are switched off for it, so that everything here stays as it is, as on a machine whose cable is pulled.
        """
        return switching.unplug(self.lab.faults, self._cables())

    def plug(self) -> None:
        """Plug all cables in again that are unplugged."""
        switching.plug(self._cables())

    def _cables(self) -> list[Link]:
        return [self.links.link(info.index) for info in self.links.infos() if info.kind == "veth"]

    # -- routes ---------------------------------------------------------------------------------------

    def add_route(
        self,
        destination: str | IPNetwork,
        *,
        via: Gateways = None,
        dev: Interface | str | None = None,
        metric: int | None = None,
        table: int | str | None = None,
        type: str = "unicast",
        source: str | IPAddress | None = None,
        onlink: bool = False,
    ) -> None:
        """Add a route.

        Args:
            destination: a network such as ``"192.168.1.0/24"``, or ``"default"``.
            via: the gateway: an address, or a namespace (or its name) that shares a network with this one; several for a
                route by all of them. A default route by a name is for each family that both have. An IPv6 link-local
                address may have its interface as a zone: ``"fe80::1%eth0"``.
            dev: the interface packets leave by; found by the gateway where left out.
            metric: of several routes to a destination, the one with the lowest is used.
            table: of another table than the main one: its number, or ``"local"`` or ``"default"``.
            type: ``"unicast"``; ``"blackhole"`` (packets vanish), ``"unreachable"`` or ``"prohibit"`` (the sender is told),
                ``"throw"`` (as if this table had no route), all without ``via`` and ``dev``.
            source: the address that packets sent from here get.
            onlink: the gateway is on the interface's link, whatever the addresses say.

        Raises:
            InvalidTopologyError: a value that cannot be part of a route.
            KernelError: the kernel refused, such as for a gateway that is not on any connected network.
        """
        found = self._routes(destination, via, dev, metric, table, type, source, onlink)
        self.links.change(*map(rtroutes.add_route, found))

    def add_default_route(self, via: Gateways = None, *, dev: Interface | str | None = None) -> None:
        """Send what no other route covers to a gateway; see `add_route`."""
        self.add_route("default", via=via, dev=dev)

    def replace_route(
        self,
        destination: str | IPNetwork,
        *,
        via: Gateways = None,
        dev: Interface | str | None = None,
        metric: int | None = None,
        table: int | str | None = None,
        type: str = "unicast",
        source: str | IPAddress | None = None,
        onlink: bool = False,
    ) -> None:
        """Add a route, in place of one to the same destination with the same metric and table; see `add_route`."""
        found = self._routes(destination, via, dev, metric, table, type, source, onlink)
        self.links.change(*map(rtroutes.replace_route, found))

    def remove_route(
        self,
        destination: str | IPNetwork,
        *,
        via: Gateways = None,
        dev: Interface | str | None = None,
        metric: int | None = None,
        table: int | str | None = None,
    ) -> None:
        """Remove a route; what is left out may be anything. ``"default"`` by itself is that of both families.

        Raises:
            KernelError: there is no such route.
        """
        index = 0 if dev is None else self.link_of(dev).index
        found = routes.removals(self.links, destination, self._gateways(via), index, metric, table)
        routes.remove(self.links, found)

    def routes(self, table: int | str = "main") -> list[Route]:
        """A routing table, IPv4 and IPv6, as it is now.

        Args:
            table: its number, or ``"main"``, ``"local"`` or ``"default"``.
        """
        number = parse_table(table)
        found = self.links.netlink.dump(rtroutes.dump_routes(), rtroutes.parse_route)
        return of_table(found, self.links.index_names(), number)

    def route_to(
        self,
        address: str | IPAddress | Network,
        source: str | IPAddress | None = None,
        mark: int | None = None,
    ) -> Route:
        """The route that the kernel chooses for packets from here to an address, as ``ip route get``.

        Args:
            address: where to, or a namespace or its name.
            source: the address they are from.
            mark: their mark, which rules may ask for.

        Raises:
            KernelError: there is no way there: ``errno`` is ENETUNREACH without a route, EHOSTUNREACH, EACCES or EINVAL
                where an unreachable, prohibit or blackhole route says so.
        """
        (target,) = self._gateways(address)
        return routes.route_to(self.links, target, source, mark)

    # -- rules ----------------------------------------------------------------------------------------

    def add_rule(
        self,
        *,
        source: str | IPNetwork | None = None,
        destination: str | IPNetwork | None = None,
        incoming: Interface | str | None = None,
        mark: int | None = None,
        table: int | str,
        priority: int | None = None,
    ) -> None:
        """Have packets use another routing table, ip-rule(8).

        Args:
            source, destination: the networks they are from and to; any where left out. Without both, the rule is for
                IPv4 and IPv6.
            incoming: the interface they came in by, or ``"lo"`` for those sent from here.
            mark: their mark.
            table: the table whose routes they use: its number, or ``"main"``, ``"local"`` or ``"default"``.
            priority: rules with a lower one come first; without one it comes before those there are, the local table apart.
        """
        found = routes.rules(source, destination, self._incoming(incoming), mark, table, priority)
        self.links.change(*map(rtrules.add_rule, found))

    def remove_rule(
        self,
        *,
        source: str | IPNetwork | None = None,
        destination: str | IPNetwork | None = None,
        incoming: Interface | str | None = None,
        mark: int | None = None,
        table: int | str | None = None,
        priority: int | None = None,
    ) -> None:
        """Remove the first rule that has all of what is given; see `add_rule`."""
        found = routes.rules(source, destination, self._incoming(incoming), mark, table, priority)
        self.links.change(*map(rtrules.remove_rule, found))

    def rules(self) -> list[Rule]:
        """The rules that say which routing table packets use, IPv4 and IPv6, in the order in which they are asked."""
        found = self.links.netlink.dump(rtrules.dump_rules(), rtrules.parse_rule)
        return sorted(map(rule_of, found), key=lambda rule: (rule.version, rule.priority))

    # -- neighbours -----------------------------------------------------------------------------------

    def neighbours(self) -> list[Neighbour]:
        """The neighbour table, IPv4 and IPv6, as it is now."""
        names = self.links.index_names()
        return [
            Neighbour(entry.address, entry.mac, names.get(entry.index, ""), entry.state)
            for entry in self.links.netlink.dump(rtneighbours.dump_neighbours(), rtneighbours.parse_neighbour)
        ]

    def add_neighbour(self, address: str | IPAddress, mac: str, dev: Interface | str) -> None:
        """Say which MAC address a neighbour has, for good: nobody is asked, and nothing that is learned changes it."""
        parsed = values.parse_address(address, "address of a neighbour"), values.parse_mac(mac)
        self.links.change(rtneighbours.add_neighbour(*parsed, self.link_of(dev).index))

    def remove_neighbour(self, address: str | IPAddress, dev: Interface | str) -> None:
        """Forget a neighbour, whether it was added or learned."""
        parsed = values.parse_address(address, "address of a neighbour")
        self.links.change(rtneighbours.remove_neighbour(parsed, self.link_of(dev).index))

    # -- pyroute2 -------------------------------------------------------------------------------------

    @overload
    def iproute(self, *, asynchronous: Literal[False] = False) -> IPRoute: ...

    @overload
    def iproute(self, *, asynchronous: Literal[True]) -> AsyncIPRoute: ...

    def iproute(self, *, asynchronous: bool = False) -> IPRoute | AsyncIPRoute:
        """A real pyroute2 `IPRoute` bound to this namespace, whatever thread uses it::

            with ns.iproute() as ipr:
                ipr.link("add", ifname="dummy0", kind="dummy")

        One that is made in ``with ns:`` and used by another thread would talk to the real host. It is closed with the lab.

        Args:
            asynchronous: an `AsyncIPRoute` instead, for a running event loop: ``async with ns.iproute(asynchronous=True)``.
        """
        from pytest_netns.lab import iproute

        network = self.links.network
        return self._closed_at_end(
            iproute.open_async_iproute(network) if asynchronous else iproute.open_iproute(network)
        )

    def ndb(self) -> NDB:
        """A pyroute2 `NDB` of this namespace; closed with the lab.

        What it leaves for Python's garbage collector to close (pyroute2 0.9.7) is a `ResourceWarning` where those are shown.
        """
        from pytest_netns.lab import iproute

        return self._closed_at_end(iproute.open_ndb(self.links.network))

    def conntrack(self) -> Conntrack:
        """A pyroute2 `Conntrack` of this namespace; closed with the lab."""
        from pytest_netns.lab import iproute

        return self._closed_at_end(iproute.open_conntrack(self.links.network))

    def _closed_at_end(self, opened: T) -> T:
        from pytest_netns.lab import iproute

        if not self.links.leaving:
            self.lab.at_end(self.links.leave)
        self.links.leaving.append(partial(iproute.close, opened))
        return opened

    # -- for the other modules ------------------------------------------------------------------------

    def link_of(self, interface: Interface | str) -> Link:
        """An interface of this namespace, given as such or by name, as the plugin itself knows it."""
        if isinstance(interface, str):
            return self.links.find(interface)
        if not isinstance(interface, Interface):
            raise InvalidTopologyError(
                f"cannot use {interface!r} as interface: pass its name, or what made it returned"
            )
        if interface.link.home is not self.links:
            raise InvalidTopologyError(f"cannot use {interface!r} in namespace {self.name!r}: it is in another one")
        return interface.link

    def _routes(
        self,
        destination: str | IPNetwork,
        via: Gateways,
        dev: Interface | str | None,
        metric: int | None,
        table: int | str | None,
        type_: str,
        source: str | IPAddress | None,
        onlink: bool,
    ) -> list[rtroutes.RouteInfo]:
        index = 0 if dev is None else self.link_of(dev).index
        rest = routes.Rest(metric, table, type_, source, onlink)
        return routes.additions(self.links, destination, self._gateways(via), index, rest)

    def _gateways(self, via: Gateways) -> list[Via]:
        """One or several, namespaces by their names."""
        several = via if isinstance(via, Sequence) and not isinstance(via, str) else () if via is None else (via,)
        found: list[Via] = []
        for each in several:
            if isinstance(each, Network):
                self.links.check_same_lab(each.links)
                found.append(each.name)
            else:
                found.append(each)
        return found

    def _incoming(self, interface: Interface | str | None) -> str:
        return "" if interface is None else self.link_of(interface).name

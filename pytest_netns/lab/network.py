"""Network: the part of a namespace's handle for interfaces, routes, rules and neighbours."""

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
from pytest_netns.parts.routes import parse_table
from pytest_netns.running.halting import Healable
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
        """Its first IPv4 address except the loopback one, without prefix length: ``f"http://{blue.address}/"``.

        Raises:
            InvalidTopologyError: it has none.
        """
        first = next((each for each in self.addresses if each.version == 4), None)
        if first is None:
            raise InvalidTopologyError(f"cannot read the address of namespace {self.name!r}: it has no IPv4 address")
        return str(first.ip)

    @property
    def addresses(self) -> list[IPInterface]:
        """All addresses with prefix length, read now, except link-local ones and those of the loopback interface."""
        return hosts.global_addresses(self.links.network)

    @property
    def interfaces(self) -> Mapping[str, Interface]:
        """All interfaces by name, read now."""
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
        """Add an interface of any kind; for veth pairs use ``lab.add_veth`` and ``bridge.attach``::

            ns.add_interface("eth0.10", kind="vlan", link="eth0", vlan_id=10, addresses="10.0.10.1/24")

        Args:
            name: its name.
            kind: ``"vlan"``, ``"vxlan"``, ``"dummy"``, ``"gre"``, ``"bond"``, ``"wireguard"`` ...; docs/interfaces.md has all.
            link: its lower interface: of this namespace or, given as an Interface, of another one.
            addresses: one or several addresses with prefix length.
            master: the bridge, bond or VRF it becomes a member of.
            mtu: in bytes.
            mac: MAC address; default: derived from the names of namespace and interface.
            up: whether to bring it up.
            options: the kind's options, by iproute2's names (``id=10``) or the kernel's (``vlan_id=10``).

        Raises:
            InvalidTopologyError: an unknown kind or option, or an invalid value; lists the valid ones.
            UnavailableError: this kernel does not have the kind; names the remedy.
            KernelError: the kernel refused.
        """
        from pytest_netns.lab import making

        on = link.link if isinstance(link, Interface) else None if link is None else self.links.find(link)
        if on is not None:
            self.links.check_same_lab(on.home)
        new = making.check_new(
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
        return handle(making.add_link(self.links, new), kind)

    def unplug(self) -> Healable:
        """Unplug all links: they lose their carrier, until `plug`, the end of a ``with`` block, or ``lab.heal()``.

        The far ends are set down, so that the interfaces here stay as they are, as on a machine whose cable is pulled.
        """
        return switching.unplug(self.lab.faults, self._veths())

    def plug(self) -> None:
        """Plug all unplugged links in again."""
        switching.plug(self._veths())

    def _veths(self) -> list[Link]:
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
                multipath route. A default route by name is added for each family that both have. An IPv6 link-local
                address may have its interface as a zone: ``"fe80::1%eth0"``.
            dev: the interface packets leave by; default: the one that reaches the gateway.
            metric: among several routes to a destination, the lowest metric is used.
            table: a table other than main: its number, or ``"local"`` or ``"default"``.
            type: ``"unicast"``; ``"blackhole"`` (silently dropped), ``"unreachable"`` or ``"prohibit"`` (with an ICMP error),
                ``"throw"`` (as if this table had no route), all without ``via`` and ``dev``.
            source: the source address of packets sent from here.
            onlink: the gateway is on the interface's link, whatever the addresses say.

        Raises:
            InvalidTopologyError: a value is invalid in a route.
            KernelError: the kernel refused, for example because the gateway is on no connected network.
        """
        infos = self._routes(destination, via, dev, metric, table, type, source, onlink)
        self.links.change(*map(rtroutes.add_route, infos))

    def add_default_route(self, via: Gateways = None, *, dev: Interface | str | None = None) -> None:
        """Add a default route; see `add_route`."""
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
        """Add a route, or replace the one to the same destination with the same metric and table; see `add_route`."""
        infos = self._routes(destination, via, dev, metric, table, type, source, onlink)
        self.links.change(*map(rtroutes.replace_route, infos))

    def remove_route(
        self,
        destination: str | IPNetwork,
        *,
        via: Gateways = None,
        dev: Interface | str | None = None,
        metric: int | None = None,
        table: int | str | None = None,
    ) -> None:
        """Remove a route; arguments left out match any value. ``"default"`` alone removes those of both families.

        Raises:
            KernelError: there is no such route.
        """
        index = 0 if dev is None else self.link_of(dev).index
        infos = routes.removals(self.links, destination, self._gateways(via), index, metric, table)
        routes.remove(self.links, infos)

    def routes(self, table: int | str = "main") -> list[Route]:
        """Read a routing table, IPv4 and IPv6.

        Args:
            table: its number, or ``"main"``, ``"local"`` or ``"default"``.
        """
        number = parse_table(table)
        infos = self.links.netlink.dump(rtroutes.dump_routes(), rtroutes.parse_route)
        return of_table(infos, self.links.index_names(), number)

    def route_to(
        self,
        address: str | IPAddress | Network,
        source: str | IPAddress | None = None,
        mark: int | None = None,
    ) -> Route:
        """The route that the kernel chooses for packets from here to an address, like ``ip route get``.

        Args:
            address: the destination: an address, a namespace or its name.
            source: their source address.
            mark: their mark, which rules may match.

        Raises:
            KernelError: it is unreachable: ``errno`` is ENETUNREACH without a route; EHOSTUNREACH, EACCES or EINVAL
                with an unreachable, prohibit or blackhole route.
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
        """Add a policy routing rule, ip-rule(8).

        Args:
            source, destination: the packets' source and destination networks; default: any. Without both, the rule is for
                IPv4 and IPv6.
            incoming: the interface they arrive by, or ``"lo"`` for packets sent from here.
            mark: their mark.
            table: the routing table they use: its number, or ``"main"``, ``"local"`` or ``"default"``.
            priority: lower numbers come first; default: before all existing rules except that of the local table.
        """
        infos = routes.rules(source, destination, self._incoming(incoming), mark, table, priority)
        self.links.change(*map(rtrules.add_rule, infos))

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
        """Remove the first rule that matches all arguments; see `add_rule`."""
        infos = routes.rules(source, destination, self._incoming(incoming), mark, table, priority)
        self.links.change(*map(rtrules.remove_rule, infos))

    def rules(self) -> list[Rule]:
        """The policy routing rules, IPv4 and IPv6, in order of priority."""
        infos = self.links.netlink.dump(rtrules.dump_rules(), rtrules.parse_rule)
        return sorted(map(rule_of, infos), key=lambda rule: (rule.version, rule.priority))

    # -- neighbours -----------------------------------------------------------------------------------

    def neighbours(self) -> list[Neighbour]:
        """Read the neighbour table, IPv4 and IPv6."""
        names = self.links.index_names()
        return [
            Neighbour(entry.address, entry.mac, names.get(entry.index, ""), entry.state)
            for entry in self.links.netlink.dump(rtneighbours.dump_neighbours(), rtneighbours.parse_neighbour)
        ]

    def add_neighbour(self, address: str | IPAddress, mac: str, dev: Interface | str) -> None:
        """Add a permanent neighbour entry: it is neither resolved nor changed by ARP or neighbour discovery."""
        parsed = values.parse_address(address, "address of a neighbour"), values.parse_mac(mac)
        self.links.change(rtneighbours.add_neighbour(*parsed, self.link_of(dev).index))

    def remove_neighbour(self, address: str | IPAddress, dev: Interface | str) -> None:
        """Remove a neighbour entry, added or learned."""
        parsed = values.parse_address(address, "address of a neighbour")
        self.links.change(rtneighbours.remove_neighbour(parsed, self.link_of(dev).index))

    # -- pyroute2 -------------------------------------------------------------------------------------

    @overload
    def iproute(self, *, asynchronous: Literal[False] = False) -> IPRoute: ...

    @overload
    def iproute(self, *, asynchronous: Literal[True]) -> AsyncIPRoute: ...

    def iproute(self, *, asynchronous: bool = False) -> IPRoute | AsyncIPRoute:
        """A pyroute2 `IPRoute` bound to this namespace, whichever thread uses it::

            with ns.iproute() as ipr:
                ipr.link("add", ifname="dummy0", kind="dummy")

        In contrast, one created in ``with ns:`` and used by another thread would act on the real host. Closed with the lab.

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

        pyroute2 0.9.7 leaves some sockets for Python's garbage collector, which shows a `ResourceWarning` if enabled.
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
        """The plugin's own record of an interface of this namespace, given as an Interface or by name."""
        if isinstance(interface, str):
            return self.links.find(interface)
        if not isinstance(interface, Interface):
            raise InvalidTopologyError(
                f"cannot use {interface!r} as interface: pass its name, or the Interface that add_veth, attach or "
                "add_interface returned"
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
        options = routes.RouteOptions(metric, table, type_, source, onlink)
        return routes.additions(self.links, destination, self._gateways(via), index, options)

    def _gateways(self, via: Gateways) -> list[Via]:
        """One or several gateways, with namespaces by name."""
        several = via if isinstance(via, Sequence) and not isinstance(via, str) else () if via is None else (via,)
        gateways: list[Via] = []
        for each in several:
            if isinstance(each, Network):
                self.links.check_same_lab(each.links)
                gateways.append(each.name)
            else:
                gateways.append(each)
        return gateways

    def _incoming(self, interface: Interface | str | None) -> str:
        return "" if interface is None else self.link_of(interface).name

"""The methods of Namespace for routes, policy routing rules and neighbours.

What they need is imported with the first call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from pytest_netns import values
from pytest_netns.kernel.netlink import rtroutes
from pytest_netns.lab.interface import Interface
from pytest_netns.lab.network import Network
from pytest_netns.values import IPAddress, IPNetwork

if TYPE_CHECKING:
    from pytest_netns.lab.routes import Via
    from pytest_netns.lab.routing import Neighbour, Route, Rule

#: A gateway: an address, or a namespace (or its name) that shares a network; several for a multipath route.
Gateways: TypeAlias = "str | IPAddress | Network | Sequence[str | IPAddress | Network] | None"


class RouteMethods(Network):
    """The part of `Namespace` for routes, rules and neighbours."""

    __slots__ = ()

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
        from pytest_netns.lab import routes

        index = 0 if dev is None else self.link_of(dev).index
        infos = routes.removals(self.links, destination, self._gateways(via), index, metric, table)
        routes.remove(self.links, infos)

    def routes(self, table: int | str = "main") -> list[Route]:
        """Read a routing table, IPv4 and IPv6.

        Args:
            table: its number, or ``"main"``, ``"local"`` or ``"default"``.
        """
        from pytest_netns.lab.routing import of_table
        from pytest_netns.parts.routes import parse_table

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
        from pytest_netns.lab import routes

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
        from pytest_netns.kernel.netlink import rtrules
        from pytest_netns.lab import routes

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
        from pytest_netns.kernel.netlink import rtrules
        from pytest_netns.lab import routes

        infos = routes.rules(source, destination, self._incoming(incoming), mark, table, priority)
        self.links.change(*map(rtrules.remove_rule, infos))

    def rules(self) -> list[Rule]:
        """The policy routing rules, IPv4 and IPv6, in order of priority."""
        from pytest_netns.kernel.netlink import rtrules
        from pytest_netns.lab.routing import rule_of

        infos = self.links.netlink.dump(rtrules.dump_rules(), rtrules.parse_rule)
        return sorted(map(rule_of, infos), key=lambda rule: (rule.version, rule.priority))

    # -- neighbours -----------------------------------------------------------------------------------

    def neighbours(self) -> list[Neighbour]:
        """Read the neighbour table, IPv4 and IPv6."""
        from pytest_netns.kernel.netlink import rtneighbours
        from pytest_netns.lab.routing import Neighbour

        names = self.links.index_names()
        return [
            Neighbour(entry.address, entry.mac, names.get(entry.index, ""), entry.state)
            for entry in self.links.netlink.dump(rtneighbours.dump_neighbours(), rtneighbours.parse_neighbour)
        ]

    def add_neighbour(self, address: str | IPAddress, mac: str, dev: Interface | str) -> None:
        """Add a permanent neighbour entry: it is neither resolved nor changed by ARP or neighbour discovery."""
        from pytest_netns.kernel.netlink import rtneighbours

        parsed = values.parse_address(address, "address of a neighbour"), values.parse_mac(mac)
        self.links.change(rtneighbours.add_neighbour(*parsed, self.link_of(dev).index))

    def remove_neighbour(self, address: str | IPAddress, dev: Interface | str) -> None:
        """Remove a neighbour entry, added or learned."""
        from pytest_netns.kernel.netlink import rtneighbours

        parsed = values.parse_address(address, "address of a neighbour")
        self.links.change(rtneighbours.remove_neighbour(parsed, self.link_of(dev).index))

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
        from pytest_netns.lab import routes

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

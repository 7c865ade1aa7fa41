"""Translate users' arguments into routes and rules: gateways by name, several gateways, both families."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv6Address
from typing import NamedTuple, TypeAlias

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, KernelError
from pytest_netns.kernel.netlink import rtroutes
from pytest_netns.kernel.netlink.rtroutes import Hop, RouteInfo
from pytest_netns.kernel.netlink.rtrules import RuleInfo
from pytest_netns.lab import hosts
from pytest_netns.lab.links import Links
from pytest_netns.lab.routing import TYPES, Route, route_of
from pytest_netns.parts.keys import METRIC
from pytest_netns.parts.routes import MAIN, WITHOUT_GATEWAY, parse_table, parse_type
from pytest_netns.values import IPAddress, IPNetwork

Via: TypeAlias = str | IPAddress

_FAMILIES: dict[int, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
_MAX_NUMBER = 2**32 - 1
_ROUTE_OF_ERRNO = {
    errno.EACCES: "a prohibit route",
    errno.EINVAL: "a blackhole route",
    errno.EHOSTUNREACH: "an unreachable route",
}


class RouteOptions(NamedTuple):
    """Further options of a route, as users write them; see `Namespace.add_route`."""

    metric: int | None = None
    table: int | str | None = None
    type: str = "unicast"
    source: str | IPAddress | None = None
    onlink: bool = False


def additions(
    links: Links, destination: str | IPNetwork, gateways: Sequence[Via], index: int, options: RouteOptions
) -> list[RouteInfo]:
    """The routes to add: one, or for a default route by name one for each family.

    Args:
        gateways: addresses, and names of namespaces that share a network with this one.
        index: the index of the outgoing interface; 0 for the one that reaches the gateway.
    """
    if options.type != "unicast":
        parse_type(options.type)
    network = values.parse_destination(destination)
    if options.type in WITHOUT_GATEWAY:
        if gateways or index:
            raise InvalidTopologyError(
                f"cannot add {options.type} route to {destination}: such a route has no gateway or interface; leave out via and dev"
            )
    elif not gateways and not index:
        raise InvalidTopologyError(f"cannot add route to {destination}: it needs via=GATEWAY or dev=INTERFACE")
    source = None if options.source is None else values.parse_address(options.source, "source of a route")
    infos: list[RouteInfo] = []
    for version, hops in _hops(links, network, gateways, index, source):
        infos.append(
            RouteInfo(
                family=_FAMILIES[version],
                destination=network,
                hops=hops,
                metric=METRIC.parse(options.metric) if options.metric is not None else 0,
                table=MAIN if options.table is None else parse_table(options.table),
                type=TYPES[options.type],
                source=source,
                onlink=options.onlink,
            )
        )
    return infos


def removals(
    links: Links,
    destination: str | IPNetwork,
    gateways: Sequence[Via],
    index: int,
    metric: int | None,
    table: int | str | None,
) -> list[RouteInfo]:
    """The routes to remove, for each family the arguments match."""
    network = values.parse_destination(destination)
    hops_of_families = list(_hops(links, network, gateways, index, None))
    if network is None and not gateways:
        hops_of_families = [(version, hops_of_families[0][1]) for version in _FAMILIES]
    number = METRIC.parse(metric) if metric is not None else 0
    table_number = MAIN if table is None else parse_table(table)
    return [
        RouteInfo(_FAMILIES[version], network, hops, number, table_number, protocol=0, type=0)
        for version, hops in hops_of_families
    ]


def remove(links: Links, routes: Sequence[RouteInfo]) -> None:
    """Remove routes; raises an error if none of them exists."""
    failures: list[KernelError] = []
    for route in routes:
        try:
            links.change(rtroutes.remove_route(route))
        except KernelError as error:
            failures.append(error)
    if len(failures) == len(routes):
        raise failures[0]


def route_to(links: Links, target: Via, source: str | IPAddress | None, mark: int | None) -> Route:
    """The route that the kernel chooses."""
    if isinstance(target, str) and links.lab.named(target) is not None:
        address = addresses_of(links, target)[0]
    else:
        address = values.parse_address(target)
    index = links.find(address.scope_id).index if isinstance(address, IPv6Address) and address.scope_id else 0
    source_address = None if source is None else values.parse_address(source, "source of a packet")
    request = rtroutes.find_route(address, index, source=source_address, mark=0 if mark is None else parse_mark(mark))
    try:
        info = links.netlink.get(request, rtroutes.parse_looked_up)
    except KernelError as error:
        if error.errno in _ROUTE_OF_ERRNO and not error.kernel_message:
            message = f"because of {_ROUTE_OF_ERRNO[error.errno]}"
            raise KernelError(error.action, error.errno, namespace=links.name, kernel_message=message) from None
        raise
    return route_of(info, links.index_names())


def rules(
    source: str | IPNetwork | None,
    destination: str | IPNetwork | None,
    incoming: str,
    mark: int | None,
    table: int | str | None,
    priority: int | None,
) -> list[RuleInfo]:
    """The rules that the arguments describe: one, or one for each family."""
    source_network = None if source is None else values.parse_network(source, "source of a rule")
    destination_network = None if destination is None else values.parse_network(destination, "destination of a rule")
    versions = {network.version for network in (source_network, destination_network) if network is not None} or {4, 6}
    if source_network is not None and destination_network is not None and len(versions) > 1:
        raise InvalidTopologyError(
            f"cannot use a rule from '{source_network}' to '{destination_network}': they are of different families"
        )
    rule = RuleInfo(
        family=0,
        priority=None if priority is None else METRIC.parse(priority),
        table=0 if table is None else parse_table(table),
        source=source_network,
        destination=destination_network,
        incoming=incoming,
        mark=0 if mark is None else parse_mark(mark),
    )
    return [replace(rule, family=_FAMILIES[version]) for version in sorted(versions)]


def parse_mark(mark: object) -> int:
    """A packet mark."""
    if isinstance(mark, int) and not isinstance(mark, bool) and 1 <= mark <= _MAX_NUMBER:
        return mark
    raise InvalidTopologyError(f"cannot use {mark!r} as mark: use a number from 1 to {_MAX_NUMBER}")


def addresses_of(links: Links, name: str) -> tuple[IPAddress, ...]:
    """The addresses by which to reach another namespace from here: at most one of each family, preferably in a shared network."""
    other = links.lab.named(name)
    chosen = [] if other is None else hosts.best_addresses(links.own_addresses(), other.own_addresses())
    if not chosen:
        raise InvalidTopologyError(f"cannot use namespace {name!r} as a target: it has no address yet")
    return tuple(chosen)


def _hops(
    links: Links, network: IPNetwork | None, gateways: Sequence[Via], index: int, source: IPAddress | None
) -> list[tuple[int, tuple[Hop, ...]]]:
    """The next hops of a route, for each family."""
    if network is not None and source is None and len(gateways) == 1:  # as most routes, of which there may be many
        (gateway,) = gateways
        hop = _hop(links, network, network.version, gateway, _gateways(links, gateway), index)
        return [(network.version, (hop,))]
    choices = [_gateways(links, each) for each in gateways]
    versions: list[int] = [4 if source is None else source.version]
    if network is not None:
        versions = [network.version]
    elif choices:
        versions = [version for version in _FAMILIES if all(version in choice for choice in choices)]
    if not versions:
        raise InvalidTopologyError("cannot add one route by several gateways: they are of different families")
    if source is not None:
        versions = [version for version in versions if version == source.version]
        if not versions:
            raise InvalidTopologyError(f"cannot use '{source}' as source of a route: the route is of another family")
    hops: list[tuple[int, tuple[Hop, ...]]] = []
    for version in versions:
        ways = [
            _hop(links, network, version, gateway, choice, index)
            for gateway, choice in zip(gateways, choices, strict=True)
        ]
        hops.append((version, tuple(ways) if ways else (Hop(None, index),) if index else ()))
    return hops


def _hop(
    links: Links, network: IPNetwork | None, version: int, gateway: Via, choice: dict[int, IPAddress], index: int
) -> Hop:
    address = choice.get(version)
    if address is None and version == 4 and links.lab.named(str(gateway)) is None:  # an IPv6 gateway, RFC 5549
        address = choice[6]
    if address is None:
        raise InvalidTopologyError(
            f"cannot add route to {network} via {gateway}: the gateway is of another family; use an IPv{version} address"
        )
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        zone = links.find(address.scope_id).index
        if index and index != zone:
            raise InvalidTopologyError(f"cannot add route via {gateway}: dev is another interface than its zone")
        return Hop(address, zone)
    return Hop(address, index)


def _gateways(links: Links, via: Via) -> dict[int, IPAddress]:
    """The addresses of a gateway by family: both, if it is a namespace that shares networks of both."""
    other = links.lab.named(via) if isinstance(via, str) else None
    if other is None:
        address = values.parse_address(via, "gateway")
        return {address.version: address}
    own_networks = {address.network for address in links.own_addresses()}
    shared = [address.ip for address in other.own_addresses() if address.network in own_networks]
    if not shared:
        raise InvalidTopologyError(
            f"cannot use namespace {via!r} as a gateway of {links.name!r}: they have no network in common"
        )
    return {address.version: address for address in reversed(shared)}

"""Routes and neighbours: as a namespace's kernel tables show them, and what a route is made of."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError
from pytest_netns.kernel.netlink import rtroutes
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.lab import hosts
from pytest_netns.values import IPAddress, IPNetwork

if TYPE_CHECKING:
    from pytest_netns.lab.interface import Interface
    from pytest_netns.lab.namespace import Namespace


@dataclass(frozen=True)
class Route:
    """A route of the main table.

    Attributes:
        destination: the network; ``0.0.0.0/0`` or ``::/0`` for the default route.
        via: the gateway; None for a directly connected network.
        interface: the name of the interface packets leave by.
        metric: of several routes to a destination, the one with the lowest is used.
    """

    destination: IPNetwork
    via: IPAddress | None
    interface: str
    metric: int = 0

    @property
    def is_default(self) -> bool:
        """Whether it is the default route."""
        return self.destination.prefixlen == 0

    def __str__(self) -> str:
        via = f" via {self.via}" if self.via is not None else ""
        return f"{'default' if self.is_default else self.destination}{via} dev {self.interface}"


@dataclass(frozen=True)
class Neighbour:
    """An entry of the neighbour table: ARP for IPv4, neighbour discovery for IPv6.

    Attributes:
        address: whose MAC address it tells.
        mac: empty while unknown.
        interface: the name of the interface it is reached by.
        state: ``"reachable"``, ``"stale"``, ``"failed"`` ..., as `ip neighbour` shows, in lower case.
    """

    address: IPAddress
    mac: str
    interface: str
    state: str

    def __str__(self) -> str:
        return f"{self.address} {self.mac or 'unknown'} dev {self.interface} {self.state}"


def route_request(
    namespace: Namespace,
    destination: str | IPNetwork,
    via: str | IPAddress | Namespace | None,
    dev: Interface | str | None,
    metric: int | None,
) -> Request:
    """The request that adds a route; see `Namespace.add_route`."""
    network = values.parse_destination(destination)
    gateway = None if via is None else gateway_address(namespace, via)
    if gateway is None and dev is None:
        raise InvalidTopologyError(f"cannot add route to {destination}: it needs via=GATEWAY or dev=INTERFACE")
    if network is not None and gateway is not None and network.version != gateway.version:
        raise InvalidTopologyError(
            f"cannot add route to {network} via {gateway}: the gateway is of the other family; "
            f"write an IPv{network.version} address"
        )
    version = network.version if network is not None else gateway.version if gateway is not None else 4
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    index = None if dev is None else namespace.link_of(dev).index
    return rtroutes.add_route(network, family=family, via=gateway, index=index, metric=metric)


def addresses_of(namespace: Namespace, name: str) -> tuple[IPAddress, ...]:
    """A namespace's addresses as reached from here, at most one of each family; those in a shared network first."""
    chosen = hosts.best_addresses(namespace.links.own_addresses(), namespace._lab[name].links.own_addresses())
    if not chosen:
        raise InvalidTopologyError(f"cannot use namespace {name!r} as a target: it has no address yet")
    return tuple(chosen)


def gateway_address(namespace: Namespace, via: str | IPAddress | Namespace) -> IPAddress:
    """The address of a gateway, which may be given as a namespace on a shared network."""
    if not isinstance(via, str | IPv4Address | IPv6Address):
        namespace._lab.check_member(via)
        via = via.name
    if not (isinstance(via, str) and via in namespace._lab):
        return values.parse_address(via, "gateway")
    own = {address.network for address in namespace.links.own_addresses()}
    shared = [address for address in namespace._lab[via].links.own_addresses() if address.network in own]
    if not shared:
        raise InvalidTopologyError(
            f"cannot use namespace {via!r} as a gateway of {namespace.name!r}: they have no network in common"
        )
    return shared[0].ip

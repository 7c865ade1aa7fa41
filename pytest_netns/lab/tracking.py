"""Forget tracked connections of a namespace, since new NAT rules only apply to new connections."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence, Set

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink import conntrack
from pytest_netns.kernel.netlink.conntrack import TrackedConnection
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.parts.gateway.nftext import Effect, Flow
from pytest_netns.values import IPAddress


def are_any(netlink: NetlinkSocket) -> bool:
    """Whether connections are tracked, as far as the kernel reports that."""
    try:
        return conntrack.count(netlink) > 0
    except KernelError:  # it does not: only existing connections keep their translation
        return False


def forget(netlink: NetlinkSocket, effects: Sequence[Effect], own_addresses: Callable[[], Set[IPAddress]]) -> None:
    """Forget the connections that rules would translate differently; except established TCP ones.

    Args:
        netlink: a netfilter socket of the namespace.
        effects: what the rules do.
        own_addresses: returns the namespace's own addresses.
    """
    if any(each.for_datagrams for each in effects) and are_any(netlink):
        addresses = own_addresses()
        forget_if(netlink, lambda connection: any(each.concerns(_flow(connection, addresses)) for each in effects))


def forget_if(netlink: NetlinkSocket, condition: Callable[[TrackedConnection], bool] = lambda _: True) -> None:
    """Forget the connections that meet a condition, except established TCP ones."""
    for connection in conntrack.tracked(netlink):
        if not connection.is_established and condition(connection):
            conntrack.delete(netlink, connection)


def _flow(connection: TrackedConnection, own_addresses: Set[IPAddress]) -> Flow:
    destination = ipaddress.ip_address(connection.original.destination)
    return Flow(
        connection.protocol,
        ipaddress.ip_address(connection.original.source),
        destination,
        connection.original.destination_port,
        destination in own_addresses,
        connection.has_other_source,
        connection.has_other_destination,
    )

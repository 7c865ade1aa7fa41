"""How interfaces are made: in one message to each namespace, and usable as soon as that has returned."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, KernelError, fails_as
from pytest_netns.kernel.netlink import rtaddresses, rtlinks
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.lab.interface import Bridge, Interface, VethPair
from pytest_netns.values import IPInterface

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.namespace import Namespace


@fails_as("add veth pair")
def connect(
    lab: Lab,
    ends: tuple[Namespace, Namespace],
    addresses: tuple[Sequence[IPInterface], Sequence[IPInterface]],
    names: tuple[str, str],
    mtus: tuple[int | None, int | None] = (None, None),
    macs: tuple[str | None, str | None] = (None, None),
    *,
    bridge: Bridge | None = None,
) -> VethPair:
    """Make a veth pair, everything about it in one message to each of the two namespaces.

    The first end may be a port of a bridge, which is to be settled after its last port.
    """
    own_mtu, peer_mtu = (None if mtu is None else values.parse_mtu(mtu) for mtu in mtus)
    for namespace, name in zip(ends, names, strict=True):
        lab._check_member(namespace)
        values.parse_interface_name(name)
        check_name_free(namespace, name)
    if ends[0] is ends[1] and names[0] == names[1]:
        raise InvalidTopologyError(f"cannot name both ends {names[0]!r}: they are in the same namespace")
    own_mac, peer_mac = (None if mac is None else values.parse_mac(mac) for mac in macs)
    with lab._lock:
        a, b = (Interface(end, name, end._kernel.next_index()) for end, name in zip(ends, names, strict=True))
        pair = rtlinks.add_veth(
            a.name,
            a.index,
            b.name,
            b.index,
            ends[1]._kernel.fd,
            mtu=own_mtu,
            peer_mtu=peer_mtu,
            mac=own_mac,
            peer_mac=peer_mac,
            bridge=0 if bridge is None else bridge.index,
        )
        first = [pair, *ends[0]._kernel.interface_settings.of(a.index, a.name)]
        first += [rtaddresses.add_address(a.index, a.name, item) for item in addresses[0]]
        second = [rtlinks.set_link(b.index, b.name, up=True)]
        second += ends[1]._kernel.interface_settings.of(b.index, b.name)
        second += [rtaddresses.add_address(b.index, b.name, item) for item in addresses[1]]
        make(a, [(ends[0], first), (ends[1], second)])
        a._peer, b._peer = b, a
        register(a)
        register(b)
    a._settle()
    b._settle()
    a._wait_usable(addresses[0])
    b._wait_usable(addresses[1])
    return VethPair(a, b)


def make(interface: Interface, steps: list[tuple[Namespace, list[Request]]]) -> None:
    """Send requests of which the first makes an interface; if any fails, nothing of it is left."""
    try:
        for namespace, requests in steps:
            namespace._netlink.request(*requests)
    except BaseException as failure:
        if not (isinstance(failure, KernelError) and failure.action == steps[0][1][0].action):
            with contextlib.suppress(KernelError):  # interrupted before there was anything to delete
                interface.delete()
        raise


def register(interface: Interface) -> None:
    """Have its namespace, and the names of the lab, know of an interface."""
    interface.namespace._interfaces[interface.index] = interface
    interface.namespace._names.add(interface.name)
    interface.namespace._lab.names.changed(interface.namespace.name)


def check_name_free(namespace: Namespace, name: str) -> None:
    """Refuse a name that an interface of the namespace has."""
    if name in namespace._names and name in namespace.interfaces:
        raise InvalidTopologyError(
            f"cannot add interface {name!r} to namespace {namespace.name!r}: it has one of that name already"
        )

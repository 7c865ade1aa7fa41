"""Create veth pairs and bridges: with one message to each namespace, ready to use when the call returns."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, KernelError, fails_as
from pytest_netns.kernel.netlink import rtaddresses, rtlinks
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.lab.link import Link
from pytest_netns.lab.links import Links
from pytest_netns.values import IPInterface, naming

T = TypeVar("T")

_MAX_QUEUES = 4096  # rtnetlink's own limit
_TRIES = 3  # if a program has just taken a name or index


class End(NamedTuple):
    """One end of a veth pair to create.

    Attributes:
        links: the interfaces of its namespace.
        name: None for the default: after its own namespace, or, for a bridge port, after that of the other end.
        addresses: addresses with prefix length.
        mtu: in bytes; None for the kernel's default.
        mac: None to derive one from the names of namespace and interface.
        number: its index; None for a free one.
        up: whether to bring it up.
    """

    links: Links
    name: str | None = None
    addresses: Sequence[IPInterface] = ()
    mtu: int | None = None
    mac: str | None = None
    number: int | None = None
    up: bool = True


@fails_as("add veth pair")
def connect(
    a: End, b: End, *, bridge: Link | None = None, offload: bool = True, queues: int | None = None
) -> tuple[Link, Link]:
    """Create and configure a veth pair with one message to each of the two namespaces.

    The first end may be a port of a bridge; the caller settles the bridge after its last port.
    """
    a, b = _checked(a), _checked(b)
    if queues is not None:
        _parse_queues(queues)
    with a.links.lab.lock:
        ends = again_if_taken((a.links, b.links), lambda: _make_pair(a, b, bridge, queues))
        if not offload:
            _switch_offload_off(ends)
        for link in ends:
            link.home.register(link)
    for link in ends:
        link.home.settle(link)
    if not (a.up and b.up):
        return ends
    for link, end in zip(ends, (a, b), strict=True):
        link.home.wait_usable(link, end.addresses)
        if link is not ends[0] or bridge is None:  # the address of a bridge port is unreachable
            link.home.wait_link_local(link)
    return ends


@fails_as("add bridge")
def add_bridge(links: Links, name: str, addresses: Sequence[IPInterface], mtu: int | None) -> Link:
    """Create a bridge that is up."""
    if mtu is not None:
        values.parse_mtu(mtu)
    end = _checked(End(links, name, addresses, mtu))
    with links.lab.lock:
        bridge = again_if_taken((links,), lambda: _make_bridge(end))
        links.register(bridge)
    links.wait_usable(bridge, addresses)
    return bridge


def _checked(end: End) -> End:
    if end.name is not None:
        values.parse_interface_name(end.name)
    if end.mtu is None and end.mac is None and end.number is None:
        return end
    mtu = None if end.mtu is None else values.parse_mtu(end.mtu)
    mac = None if end.mac is None else values.parse_mac(end.mac)
    if end.number is not None and not (isinstance(end.number, int) and 2 <= end.number < 2**31):  # 1 is lo
        raise InvalidTopologyError(f"cannot use {end.number!r} as interface index: use a number from 2 to {2**31 - 1}")
    return End(end.links, end.name, end.addresses, mtu, mac, end.number, end.up)


def again_if_taken(members: Sequence[Links], make: Callable[[], T]) -> T:
    """Create interfaces; retry if a program has taken a name or index meanwhile. The lock is held."""
    for _ in range(_TRIES - 1):
        try:
            return make()
        except KernelError as error:
            if error.errno not in (errno.EEXIST, errno.EBUSY) or not error.creates_interface:
                raise
            for links in members:
                links.infos()
    return make()


def _make_pair(a: End, b: End, bridge: Link | None, queues: int | None) -> tuple[Link, Link]:
    names = _names(a, b, plugged=bridge is not None)
    first_end, peer = (
        Link(end.links, _index(end), name, end.mac or naming.derived_mac(end.links.name, name))
        for end, name in zip((a, b), names, strict=True)
    )
    pair = rtlinks.add_veth(
        first_end.name,
        first_end.index,
        peer.name,
        peer.index,
        b.links.network.fd,
        mtu=a.mtu,
        peer_mtu=b.mtu,
        mac=first_end.mac,
        peer_mac=peer.mac,
        bridge=0 if bridge is None else bridge.index,
        queues=queues,
        up=a.up,
    )
    first = [pair, *_settings(first_end, a.addresses)]
    switched = [rtlinks.set_link(peer.index, peer.name, up=True)] if b.up else []
    second = [*switched, *_settings(peer, b.addresses)]
    _make(first_end, [(a.links, first), (b.links, second)])
    return first_end, peer


def _index(end: End) -> int:
    if end.number is None:
        return end.links.next_index()
    taken = next((info for info in end.links.infos() if info.index == end.number), None)
    if taken is not None:
        raise InvalidTopologyError(
            f"cannot use {end.number} as interface index in namespace {end.links.name!r}: {taken.name!r} has it"
        )
    return end.number


def _parse_queues(queues: object) -> None:
    if not isinstance(queues, int) or isinstance(queues, bool) or not 1 <= queues <= _MAX_QUEUES:
        raise InvalidTopologyError(f"cannot use {queues!r} as queues: use a number from 1 to {_MAX_QUEUES}")


def _switch_offload_off(ends: tuple[Link, Link]) -> None:
    from pytest_netns.kernel.spaces import offload

    try:
        for link in ends:
            offload.disable(link.home.netlink, link.name)
    except BaseException:
        ends[0].home.change(rtlinks.delete_link(ends[0].index, ends[0].name))
        raise


def _make_bridge(end: End) -> Link:
    links, name = end.links, _name(end, partial(naming.default_interface_name, end.links.name), set())
    bridge = Link(links, links.next_index(), name, naming.derived_mac(links.name, name))
    bridge.port_mtu = end.mtu
    first = [rtlinks.add_bridge(name, bridge.index, mac=bridge.mac)]
    if end.mtu is not None:  # an MTU set on creation would change to that of the first port
        first.append(rtlinks.set_link(bridge.index, name, mtu=end.mtu))
    _make(bridge, [(links, [*first, *_settings(bridge, end.addresses)])])
    return bridge


def _settings(link: Link, addresses: Sequence[IPInterface]) -> list[Request]:
    """The requests that configure a new interface."""
    given = [rtaddresses.add_address(link.index, link.name, address) for address in addresses]
    return [*link.home.settings_of(link.index, link.name), *given]


def _make(link: Link, steps: Sequence[tuple[Links, Sequence[Request]]]) -> None:
    """Send requests, the first of which creates an interface; if any fails, delete it."""
    try:
        for links, requests in steps:
            links.change(*requests)
    except BaseException as failure:
        if not (isinstance(failure, KernelError) and failure.creates_interface):
            with contextlib.suppress(KernelError):  # interrupted before the interface existed
                link.home.change(rtlinks.delete_link(link.index, link.name))
        raise


def _names(a: End, b: End, *, plugged: bool) -> tuple[str, str]:
    """The names of the two ends."""
    together = a.links is b.links
    plain = naming.bridge_side_name if plugged else naming.default_interface_name
    first = _name(a, partial(plain, b.links.name if plugged else a.links.name), {b.name} if together else set())
    second = _name(b, partial(naming.default_interface_name, b.links.name), {first} if together else set())
    return first, second


def _name(end: End, default: Callable[[Container[str | None]], str], also: set[str | None] | set[str]) -> str:
    """The given name, or the first free default name.

    Args:
        also: further names that the same pair uses in this namespace.
    """
    if end.name is None:
        if default(end.links.names | also) != default(also):
            end.links.infos()  # the interface with the first default name may be gone
        return default(end.links.names | also)
    if end.name in also:
        raise InvalidTopologyError(f"cannot name both ends {end.name!r}: they are in the same namespace")
    return check_name(end.links, end.name)


def check_name(links: Links, name: str) -> str:
    """Check that a name is valid and free, and return it."""
    values.parse_interface_name(name)
    if links.is_taken(name):
        raise InvalidTopologyError(
            f"cannot add interface {name!r} to namespace {links.name!r}: it already has one of that name"
        )
    return name

"""Set interfaces down and up, and unplug links: the routes and addresses that the kernel drops are restored."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_netns.errors import InvalidTopologyError, KernelError
from pytest_netns.faults.faults import Faults, Healing
from pytest_netns.kernel.netlink import rtaddresses, rtlinks, rtroutes
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.values.notes import Note

if TYPE_CHECKING:
    from pytest_netns.lab.link import Link
    from pytest_netns.lab.links import Links


class Switches:
    """The interfaces of one namespace that are down, and those whose link is unplugged.

    Args:
        links: the interfaces of the namespace.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._taken: dict[Link, list[Request]] = {}
        self.unplugged: dict[Link, Unplugged] = {}
        self.down_links: dict[Link, InterfaceDown] = {}

    def down(self, link: Link) -> None:
        """Set an interface down, and remember what the kernel drops."""
        taken = list(self._restoring(link))
        self._links.change(rtlinks.set_link(link.index, link.name, up=False))
        self._taken.setdefault(link, taken)
        self._links.changed()

    def up(self, link: Link) -> None:
        """Set an interface up and restore what `down` dropped; it can be used at once.

        Raises:
            InvalidTopologyError: it is the end that is down because its link is unplugged.
        """
        if link in self.unplugged:
            raise InvalidTopologyError(
                f"cannot set interface {link.name!r} in namespace {self._links.name!r} up: it is unplugged; "
                "call plug() of the veth pair or of the namespace"
            )
        self._links.change(rtlinks.set_link(link.index, link.name, up=True))
        if (fault := self.down_links.pop(link, None)) is not None:
            fault.ended()
        for end in (link, self._links.peer(link)):
            if end is not None and end.home.read(end).mac:
                end.home.settle(end)
                end.home.wait_link_local(end)
        for request in self._taken.pop(link, ()):
            with contextlib.suppress(KernelError):  # it already exists, or no longer fits
                self._links.change(request)
        self._links.wait_usable(link, (address for index, address in self._links.addresses() if index == link.index))
        self._links.changed()

    def _restoring(self, link: Link) -> Iterator[Request]:
        """The requests that restore the IPv6 addresses and static routes of an interface."""
        netlink = self._links.netlink
        for body in netlink.dump(rtaddresses.dump_addresses(), bytes):
            info = rtaddresses.parse_address_info(body)
            if info.link_index == link.index and info.address.version == 6 and info.is_static:
                yield rtaddresses.replay(body, rtaddresses.RTM_NEWADDR)
        for body in netlink.dump(rtroutes.dump_routes(), bytes):
            route = rtroutes.parse_route(body)
            if route is not None and rtroutes.is_static_by(route, link.index):
                yield rtroutes.replay(body)


class InterfaceDown(Healing):
    """An interface that was set down: set up again by `heal`, at the end of a ``with`` block, or by ``lab.heal()``.

    Args:
        faults: the faults in force in the lab.
        link: the interface.
    """

    __slots__ = ("_faults", "_link")

    def __init__(self, faults: Faults, link: Link) -> None:
        self._faults = faults
        self._link = link

    def heal(self) -> None:
        """Set it up again and restore what was dropped, unless it is up already or was down before; idempotent."""
        switches = self._link.home.switches
        if switches.down_links.get(self._link) is self:
            try:
                switches.up(self._link)
            except KernelError as error:
                if error.errno != errno.ENODEV:  # ENODEV: it was deleted
                    raise
                self.ended()

    def ended(self) -> None:
        """Mark it as up again."""
        self._link.home.switches.down_links.pop(self._link, None)
        self._faults.discard(self)

    def __repr__(self) -> str:
        return f"<{self._link.home.name}/{self._link.name} is down>"


def set_down(faults: Faults, link: Link) -> InterfaceDown:
    """Set an interface down, and remember what the kernel drops."""
    switches = link.home.switches
    was_on = _is_up(link)
    switches.down(link)
    fault = InterfaceDown(faults, link)
    if was_on:
        switches.down_links[link] = fault
        faults.add(fault)
    return fault


class Unplugged(Healing):
    """An unplugged link: both ends have no carrier, since one of them is down.

    Args:
        faults: the faults in force in the lab.
        pulled: the end that is down.
        other: the other end; None if it is in no namespace of the lab.
    """

    __slots__ = ("_faults", "_other", "_pulled")

    def __init__(self, faults: Faults, pulled: Link, other: Link | None) -> None:
        self._faults = faults
        self._pulled = pulled
        self._other = other

    def heal(self) -> None:
        """Plug it in again; idempotent."""
        switches = self._pulled.home.switches
        if switches.unplugged.pop(self._pulled, None) is not None:
            self._faults.discard(self)
            switches.up(self._pulled)

    def notes(self) -> Iterator[Note]:
        """The notes of both ends for drawings and reports."""
        for end in (self._pulled, self._other):
            if end is not None:
                yield Note(end.home.name, "unplugged", end.name)

    def __repr__(self) -> str:
        ends = [f"{end.home.name}/{end.name}" for end in (self._pulled, self._other) if end is not None]
        is_plugged = self._pulled not in self._pulled.home.switches.unplugged
        return f"<{' -- '.join(ends)} is unplugged{' (healed)' if is_plugged else ''}>"


class HealingGroup(Healing):
    """Several faults that end together."""

    __slots__ = ("_faults",)

    def __init__(self, faults: Sequence[Healing]) -> None:
        self._faults = faults

    def heal(self) -> None:
        """Undo them all; idempotent."""
        for fault in self._faults:
            fault.heal()

    def __repr__(self) -> str:
        return f"<{', '.join(repr(fault).strip('<>') for fault in self._faults) or 'nothing to undo'}>"


def unplug(faults: Faults, ends: Iterable[Link]) -> HealingGroup:
    """Unplug links: both ends lose their carrier.

    Args:
        ends: one end of each link: the one that stays up and keeps its routes and addresses.
    """
    begun: list[Healing] = []
    for end in ends:
        peer = end.home.peer(end)
        pulled = end if peer is None else peer
        switches = pulled.home.switches
        if pulled not in switches.unplugged and end not in end.home.switches.unplugged and _is_up(pulled):
            switches.down(pulled)
            fault = switches.unplugged[pulled] = Unplugged(faults, pulled, None if peer is None else end)
            faults.add(fault)
            begun.append(fault)
    return HealingGroup(begun)


def plug(ends: Iterable[Link]) -> None:
    """Plug unplugged links in again."""
    for end in ends:
        for link in (end, end.home.peer(end)):
            fault = None if link is None else link.home.switches.unplugged.get(link)
            if fault is not None:
                fault.heal()


def flap(faults: Faults, ends: Sequence[Link], times: int, down: float, up: float) -> None:
    """Unplug links and plug them in again, several times."""
    for name, value, least in (("times", times, 1), ("down", down, 0), ("up", up, 0)):
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            raise InvalidTopologyError(f"cannot flap a link with {name}={value!r}: give a number of at least {least}")
    for _ in range(int(times)):
        with unplug(faults, ends):
            time.sleep(down)
        time.sleep(up)


def _is_up(link: Link) -> bool:
    return bool(link.home.read(link).flags & rtlinks.IFF_UP)

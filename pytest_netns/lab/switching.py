"""Interfaces switched off and on again, and cables unplugged and plugged in again: what that took is given back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pytest_netns.errors import InvalidTopologyError, KernelError
from pytest_netns.kernel.netlink import rtaddresses, rtlinks, rtroutes
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.values.notes import Note

if TYPE_CHECKING:
    from pytest_netns.lab.links import LabLinks, Link, Links


class Switches:
    """The interfaces of one namespace that are switched off, and those behind which a cable is unplugged.

    Args:
        links: the interfaces of the namespace.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._taken: dict[Link, list[Request]] = {}
        self.unplugged: set[Link] = set()

    def down(self, link: Link) -> None:
        """Switch an interface off; what that takes is remembered."""
        taken = list(self._will_be_taken(link))
        self._links.change(rtlinks.set_link(link.index, link.name, up=False))
        self._taken.setdefault(link, taken)
        self._links.changed()

    def up(self, link: Link) -> None:
        """Switch an interface on, with what `down` took; it can be used at once.

        Raises:
            InvalidTopologyError: it is the end by which its cable is unplugged.
        """
        if link in self.unplugged:
            raise InvalidTopologyError(
                f"cannot switch on interface {link.name!r} in namespace {self._links.name!r}: its cable is unplugged; "
                "call plug() of the cable or of the namespace"
            )
        self._links.change(rtlinks.set_link(link.index, link.name, up=True))
        for end in (link, self._links.peer(link)):
            if end is not None and end.home.read(end).mac:
                end.home.settle(end)
                end.home.wait_link_local(end)
        for request in self._taken.pop(link, ()):
            with contextlib.suppress(KernelError):  # it is there already, or no longer fits
                self._links.change(request)
        self._links.wait_usable(link, (address for index, address in self._links.addresses() if index == link.index))
        self._links.changed()

    def _will_be_taken(self, link: Link) -> Iterator[Request]:
        """What adds the IPv6 addresses and static routes of an interface again."""
        netlink = self._links.netlink
        for body in netlink.dump(rtaddresses.dump_addresses(), bytes):
            info = rtaddresses.parse_address_info(body)
            if info.link_index == link.index and info.address.version == 6 and info.is_static:
                yield rtaddresses.again(body, rtaddresses.RTM_NEWADDR)
        for body in netlink.dump(rtroutes.dump_routes(), bytes):
            route = rtroutes.parse_route(body)
            if route is not None and rtroutes.is_static_by(route, link.index):
                yield rtroutes.again(body)


def unplug(ends: Iterable[Link]) -> list[Link]:
    """Take the carrier from both ends of each cable, by switching off one of them.

    Args:
        ends: one of each cable, the one that is not to be switched off.

    Returns:
        The ends that were switched off; none for a cable that is unplugged already.
    """
    pulled = []
    for end in ends:
        other = end.home.peer(end) or end
        switches = other.home.switches
        free = other not in switches.unplugged and end not in end.home.switches.unplugged
        if free and other.home.read(other).flags & rtlinks.IFF_UP:
            switches.down(other)
            switches.unplugged.add(other)
            pulled.append(other)
    return pulled


def plug(pulled: Iterable[Link]) -> None:
    """Switch the ends on again by which cables are unplugged."""
    for link in pulled:
        switches = link.home.switches
        if link in switches.unplugged:
            switches.unplugged.discard(link)
            switches.up(link)


def unplugged(ends: Iterable[Link]) -> list[Link]:
    """The ends, of these and their peers, by which a cable is unplugged."""
    both = [each for end in ends for each in (end, end.home.peer(end)) if each is not None]
    return [each for each in dict.fromkeys(both) if each in each.home.switches.unplugged]


def notes(lab: LabLinks) -> Iterator[Note]:
    """A line for each end of a cable that is unplugged."""
    for links in lab.members:
        for link in links.switches.unplugged:
            peer = links.peer(link)
            for end in (link, peer):
                if end is not None:
                    yield Note(end.home.name, "unplugged", end.name)


class Unplugged:
    """Cables that were just unplugged; as a context manager it plugs them in again at the end of the block."""

    __slots__ = ("_pulled",)

    def __init__(self, pulled: list[Link]) -> None:
        self._pulled = pulled

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        plug(self._pulled)


def flap(ends: list[Link], times: int, down: float, up: float) -> None:
    """Unplug a cable and plug it in again, several times."""
    for name, value, least in (("times", times, 1), ("down", down, 0), ("up", up, 0)):
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            raise InvalidTopologyError(f"cannot flap a cable with {name}={value!r}: give a number from {least} up")
    for _ in range(times):
        with Unplugged(unplug(ends)):
            time.sleep(down)
        time.sleep(up)

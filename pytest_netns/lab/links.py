"""Links: the interfaces of one namespace. They know no handle.

Properties of an interface are read from the kernel; only its last known name and index are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from ipaddress import IPv6Interface, ip_interface
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.kernel.netlink import rtaddresses, rtlinks, rtnsid, rtroutes
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.rtlinks import LinkInfo
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.spaces import carrier, local_addresses
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system.lazy import created_on_use
from pytest_netns.lab import hosts
from pytest_netns.lab.link import Link
from pytest_netns.values import IPInterface, naming, parse_choice
from pytest_netns.values.addresses import IPv4PeerInterface, IPv6PeerInterface

if TYPE_CHECKING:
    from pytest_netns.lab.lab_links import LabLinks
    from pytest_netns.lab.switching import Switches

FIRST_INDEX = 101  # the first index we assign; the kernel's own, for interfaces created by programs, start at 2
_DUMPS = (rtlinks.dump_links, rtaddresses.dump_addresses, rtroutes.dump_routes)
_MAC_LENGTH = len("02:00:00:00:00:01")
_LINK_SCOPE = 253  # RT_SCOPE_LINK

Tables: TypeAlias = tuple[list[bytes], ...]


class Links:
    """The interfaces of a namespace.

    Args:
        network: the namespace.
        lab: the interfaces of its lab.
        owner: the handle that interfaces show as their ``namespace``; never used here.
        changed: called when addresses of this namespace have changed.

    Attributes:
        name: the namespace's name.
        made: whether any interface was created here.
        leaving: functions to call when the namespace is removed from the lab, or the lab is closed.
    """

    def __init__(self, network: NetworkNamespace, lab: LabLinks, *, owner: object, changed: Callable[[], None]) -> None:
        self.name = network.name
        self.lab = lab
        self.owner: Any = owner
        self.changed = changed
        self.made = False
        self._network = network
        self._known: dict[int, Link] = {}
        self._names = {"lo"}
        self._used: frozenset[int] = frozenset()
        self._next_index = FIRST_INDEX
        self._nsids: dict[int, Links] = {}
        self.leaving: list[Callable[[], None]] = []

    @created_on_use
    def switches(self) -> Switches:
        """The interfaces that are down, and those whose link is unplugged."""
        from pytest_netns.lab.switching import Switches

        return Switches(self)

    def tables(self) -> Tables:
        """The kernel's messages about interfaces, addresses and routes, not decoded; takes about 0.1 ms."""
        netlink = self.network.netlink
        return tuple(netlink.dump(dump(), bytes) for dump in _DUMPS)

    @property
    def network(self) -> NetworkNamespace:
        """The open network namespace.

        Raises:
            NetnsError: the lab is closed.
        """
        return self._network.opened()

    @property
    def netlink(self) -> NetlinkSocket:
        """The namespace's netlink socket."""
        return self._network.opened().netlink

    def leave(self) -> None:
        """Call the registered functions: the namespace is removed from the lab, or the lab is closed."""
        while self.leaving:
            self.leaving.pop()()

    def check_same_lab(self, other: Links) -> None:
        """Raise an error if a namespace is in another lab."""
        if other.lab is not self.lab:
            raise InvalidTopologyError(f"cannot use namespace {other.name!r} in this lab: it belongs to another lab")

    # -- reading --------------------------------------------------------------------------------------

    def infos(self) -> list[LinkInfo]:
        """All interfaces, read now, except those that are not listed."""
        everything = self.netlink.dump(rtlinks.dump_links(), rtlinks.parse_link)
        listed = [info for info in everything if rtlinks.is_listed(info)]
        self._known = {info.index: self._seen(info.index, info.name) for info in listed}
        self._names = {info.name for info in everything}
        self._used = frozenset(info.index for info in everything)
        return listed

    def link(self, index: int) -> Link:
        """The interface with an index that `infos` has returned."""
        return self._known[index]

    def find(self, name: str) -> Link:
        """The interface with a name.

        Raises:
            InvalidTopologyError: there is none; lists the existing ones.
        """
        for known in self._known.values():
            if known.name == name:
                return known
        present = {info.name: info.index for info in self.infos()}
        parse_choice(name, present, f"interface of namespace {self.name!r}")
        return self._known[present[name]]

    def read(self, link: Link) -> LinkInfo:
        """Read an interface from the kernel."""
        info = self.netlink.get(rtlinks.get_link(link.index, link.name), rtlinks.parse_link)
        link.name, link.mac = info.name, info.mac
        return info

    def index_names(self) -> dict[int, str]:
        """The names of all interfaces by index."""
        return {info.index: info.name for info in self.infos()}

    def addresses(self) -> list[tuple[int, IPInterface]]:
        """All addresses, each with the index of its interface."""
        return self.netlink.dump(rtaddresses.dump_addresses(), rtaddresses.parse_address)

    def own_addresses(self) -> list[IPInterface]:
        """All addresses except link-local ones and those of the loopback interface."""
        return hosts.global_addresses(self.network)

    @property
    def names(self) -> Set[str]:
        """The names of the known interfaces."""
        return self._names

    def is_taken(self, name: str) -> bool:
        """Whether an interface has that name; the kernel is asked if a known one had it."""
        if name in self._names:
            self.infos()
        return name in self._names

    def peer(self, link: Link) -> Link | None:
        """The other end of a veth pair, by whomever it was created; None if there is none in this lab."""
        return self.peer_of(self.read(link))

    def peer_of(self, info: LinkInfo) -> Link | None:
        """Like `peer`, for an interface that was just read."""
        if info.kind != "veth":
            return None
        there = self if info.peer_nsid is None else self._numbered(info.peer_nsid)
        if there is None or not info.peer_index:
            return None
        return there.with_index(info.peer_index)

    def with_index(self, index: int) -> Link | None:
        """The interface with an index; None if there is none."""
        if index not in self._known:
            self.infos()
        return self._known.get(index)

    def peer_place(self, info: LinkInfo) -> tuple[str, str] | None:
        """The namespace and name of the other end of a veth pair; None if there is none in this lab."""
        peer = self.peer_of(info)
        return None if peer is None else (peer.home.name, peer.name)

    def forget_nsids(self) -> None:
        """Read the nsids of the other namespaces again when they are needed."""
        self._nsids.clear()

    def _numbered(self, nsid: int) -> Links | None:
        """The interfaces of the namespace with an nsid, which the kernel assigns to the namespace of a peer."""
        if nsid not in self._nsids:
            for other in self.lab.members:
                with_number = self.netlink.get(rtnsid.get_nsid(other.network.fd), rtnsid.parse_nsid)
                if with_number >= 0:
                    self._nsids[with_number] = other
        return self._nsids.get(nsid)

    def _seen(self, index: int, name: str) -> Link:
        link = self._known.get(index)
        if link is None:
            return Link(self, index, name)
        link.name = name
        return link

    # -- creating and changing ------------------------------------------------------------------------

    def next_index(self) -> int:
        """An index that no known interface has, so that one message can refer to the interface that the previous one creates."""
        while self._next_index in self._used:
            self._next_index += 1
        self._next_index += 1
        return self._next_index - 1

    def uses(self, index: int) -> bool:
        """Whether a known interface has that index."""
        return index in self._used

    def settings_of(self, index: int, name: str) -> list[Request]:
        """The requests that configure a new interface like the others."""
        return self.network.interface_settings.requests_for(index, name)

    def register(self, link: Link) -> None:
        """Register a new interface."""
        self._known[link.index] = link
        self._names.add(link.name)
        self.made = True
        self.changed()

    def change(self, *requests: Request) -> None:
        """Send requests to the kernel, in order."""
        if requests:
            self.netlink.request(*requests)

    def delete(self, link: Link) -> None:
        """Delete an interface; of a veth pair, both ends."""
        peer = self.peer(link)
        self.change(rtlinks.delete_link(link.index, link.name))
        for end in (link, peer):
            if end is not None:
                end.home.forget(end)
                end.home.changed()

    def forget(self, link: Link) -> None:
        """Forget a deleted interface: its name is free again."""
        self._known.pop(link.index, None)
        self._names.discard(link.name)

    def add_address(self, link: Link, address: IPInterface, scope: int = 0) -> None:
        """Add an address to an interface, usable at once."""
        self.change(rtaddresses.add_address(link.index, link.name, address, scope))
        self.changed()
        if address.version == 6 and self.read(link).flags & rtlinks.IFF_UP:
            self.wait_usable(link, [address])

    def remove_address(self, link: Link, address: IPInterface) -> None:
        """Remove one address from an interface: with an IPv4 one the kernel also removes the others of its network."""
        before = self._address_messages(link)
        if isinstance(address, IPv4PeerInterface | IPv6PeerInterface):
            address = ip_interface(address.ip)  # as the kernel reports it
        body = before.get(address)
        self.change(
            rtaddresses.remove_address(link.index, link.name, address)
            if body is None
            else rtaddresses.replay(body, rtaddresses.RTM_DELADDR)
        )
        after = self._address_messages(link)
        lost = [
            message for each, message in before.items() if each not in after and each != address and each.version == 4
        ]
        self.change(*(rtaddresses.replay(message, rtaddresses.RTM_NEWADDR) for message in lost))
        self.changed()

    def _address_messages(self, link: Link) -> dict[IPInterface, bytes]:
        """The kernel's messages about the addresses of an interface."""
        messages = self.netlink.dump(rtaddresses.dump_addresses(), bytes)
        bodies = {rtaddresses.parse_address(body): body for body in messages}
        return {address: body for (index, address), body in bodies.items() if index == link.index}

    def set_master(self, link: Link, master: Link | None) -> None:
        """Make an interface a member of another one, or of none."""
        if (
            master is not None and self.read(master).kind == "bond"
        ):  # accepts only interfaces that are down, and brings them up
            self.switches.down(link)
        self.change(rtlinks.set_master(link.index, link.name, 0 if master is None else master.index))
        for each in (link, master):
            if each is not None:
                self.settle(each)
                if self.read(each).flags & rtlinks.IFF_RUNNING:
                    self.wait_link_local(each)

    def move(self, link: Link, to: Links) -> None:
        """Move an interface to another namespace, with the same name."""
        if to.is_taken(link.name):
            raise InvalidTopologyError(
                f"cannot move interface {link.name!r} to namespace {to.name!r}: it already has one of that name"
            )
        self.change(rtlinks.move_link(link.index, link.name, to.network.fd))
        self.forget(link)
        infos = to.netlink.dump(rtlinks.dump_links(), rtlinks.parse_link)
        link.home, link.index = to, next(info.index for info in infos if info.name == link.name)
        to.register(link)
        self.changed()

    def set_mac(self, link: Link, mac: str) -> None:
        """Set the MAC address of an interface, and the link-local address that is derived from it."""
        before = self.read(link).mac
        if len(before) != len(mac):  # a tunnel has no MAC address
            raise InvalidTopologyError(f"cannot set MAC address of {link.name!r}: it has none")
        self.change(rtlinks.set_link(link.index, link.name, mac=mac))
        link.mac = mac
        old, new = naming.link_local_address(before), naming.link_local_address(mac)
        if local_addresses.has_address(self.netlink, link.index, old):
            self.change(
                rtaddresses.remove_address(link.index, link.name, IPv6Interface((old, 64))),
                rtaddresses.add_address(link.index, link.name, IPv6Interface((new, 64)), _LINK_SCOPE),
            )
            self.wait_link_local(link)
            self.changed()

    def settle(self, link: Link) -> None:
        """Make a new carrier of an interface take effect at once."""
        carrier.settle(self.netlink, link.name)

    def wait_usable(self, link: Link, addresses: Iterable[IPInterface]) -> None:
        """Wait until packets to new addresses are accepted; the interface must be up."""
        new = [address for address in addresses if address.version == 6]
        if new:
            local_addresses.wait_usable(self.netlink, link.index, new)

    def wait_link_local(self, link: Link) -> None:
        """The same for the link-local address that the kernel adds to an interface with a new carrier."""
        if len(link.mac) == _MAC_LENGTH and not self.lab.defers(link):
            local_addresses.wait_link_local(self.netlink, link.index, link.mac)

"""Handles of interfaces. They hold only a name and an index: all properties are read from the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError
from pytest_netns.kernel.netlink import rtlinks
from pytest_netns.lab.link import Link
from pytest_netns.values import IPInterface

if TYPE_CHECKING:
    from pytest_netns.faults.impair import Target
    from pytest_netns.lab.namespace import Namespace
    from pytest_netns.parts.impairment import Impairment
    from pytest_netns.running.halting import Healable

# The numbers of linux/rtnetlink.h.
SCOPES = {"global": 0, "link": 253, "host": 254}

#: An address with prefix length, or several; None for none.
AddressArgument: TypeAlias = str | IPInterface | Sequence[str | IPInterface] | None


class Interface:
    """A network interface of a namespace.

    Attributes:
        name: 1 to 15 characters.
        namespace: the namespace it is in.
        index: its index in that namespace.
    """

    __slots__ = ("__weakref__", "_link")

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def name(self) -> str:
        """Its last known name, 1 to 15 characters."""
        return self._link.name

    @property
    def namespace(self) -> Namespace:
        """The namespace it is in."""
        namespace: Namespace = self._link.home.owner
        return namespace

    @property
    def index(self) -> int:
        """Its index in its namespace."""
        return self._link.index

    @property
    def link(self) -> Link:
        """The plugin's own record of it."""
        return self._link

    @property
    def peer(self) -> Interface | None:
        """The other end of a veth pair; None for other kinds, or if it is in no namespace of this lab."""
        peer = self._link.home.peer(self._link)
        return None if peer is None else handle(peer)

    @property
    def mac(self) -> str:
        """MAC address, such as ``"02:00:00:00:00:01"``; can be set, which also changes the IPv6 link-local address."""
        return self._read().mac

    @mac.setter
    def mac(self, value: str) -> None:
        self._link.home.set_mac(self._link, values.parse_mac(value))

    @property
    def mtu(self) -> int:
        """MTU in bytes; can be set."""
        return self._read().mtu

    @mtu.setter
    def mtu(self, value: int) -> None:
        self._link.home.change(rtlinks.set_link(self.index, self.name, mtu=values.parse_mtu(value)))
        if self.namespace.lab.has_impairments:
            self.namespace.lab.impairments.renew(_target(self._link))

    @property
    def is_up(self) -> bool:
        """Whether it is administratively up; for whether it can carry packets see `has_carrier`."""
        return bool(self._read().flags & rtlinks.IFF_UP)

    @property
    def has_carrier(self) -> bool:
        """Whether it can carry packets: it is up, and so is its peer."""
        return bool(self._read().flags & rtlinks.IFF_RUNNING)

    @property
    def kind(self) -> str:
        """The kernel's name for its kind: ``"veth"``, ``"bridge"``, ``"loopback"`` ..."""
        return self._read().kind

    @property
    def is_port(self) -> bool:
        """Whether it is a port of a bridge, or a member of a bond or VRF."""
        return bool(self._read().master)

    @property
    def addresses(self) -> list[IPInterface]:
        """All addresses with prefix length, including IPv6 link-local ones."""
        return [address for index, address in self._link.home.addresses() if index == self.index]

    def up(self) -> None:
        """Set it up; restores static routes and IPv6 addresses that were lost by `down`."""
        self._link.home.switches.up(self._link)

    def down(self) -> Healable:
        """Set it down, like ``ip link set down``: it loses its routes and IPv6 addresses.

        Returns:
            A handle that sets it up again, like `up`, by its ``heal()`` or at the end of a ``with`` block; so does ``lab.heal()``.
        """
        from pytest_netns.lab import switching

        return switching.set_down(self.namespace.lab.faults, self._link)

    def add_address(self, address: str | IPInterface, *, scope: str = "global") -> None:
        """Add an address, usable at once.

        Args:
            address: an address with prefix length, optionally with a peer: ``"10.0.0.1 peer 10.0.0.2/32"``.
            scope: the scope of an IPv4 address: ``"global"``, ``"link"`` or ``"host"``.

        Raises:
            InvalidTopologyError: no prefix length, or not an address that a host can have.
            KernelError: the interface already has it, or is gone.
        """
        parsed = values.parse_interface_address(address)
        number = SCOPES[values.parse_choice(scope, SCOPES, "scope of an address")]
        self._link.home.add_address(self._link, parsed, number)

    def remove_address(self, address: str | IPInterface) -> None:
        """Remove one address; others in the same network stay."""
        self._link.home.remove_address(self._link, values.parse_interface_address(address))

    def set_master(self, other: Interface | str | None) -> None:
        """Make it a member of a bridge, bond or VRF in the same namespace; None for none.

        A bond accepts only interfaces that are down, and sets them up itself.
        """
        master = None if other is None else self.namespace.link_of(other)
        self._link.home.set_master(self._link, master)

    def move_to(self, namespace: Namespace) -> None:
        """Move to another namespace of the lab, with the same name and peer.

        As with ``ip link set netns``, it loses its addresses and routes, and is set down.

        Raises:
            InvalidTopologyError: that namespace already has one of that name.
        """
        self.namespace.lab.check_member(namespace)
        self._link.home.move(self._link, namespace.links)

    def delete(self) -> None:
        """Delete the interface; of a veth pair, both ends."""
        impaired = [each for each in (self, self.peer) if each] if self.namespace.lab.has_impairments else []
        self._link.home.delete(self._link)
        for each in impaired:
            each.heal()

    # -- impairment --------------------------------------------------------------------------------

    @property
    def impairment(self) -> Impairment | None:
        """The impairment of packets that this interface sends; None for none."""
        return self.namespace.lab.impairments.of(_target(self._link))

    def impair(self, impairment: Impairment | str | None = None, **values: Any) -> Healable:
        """Impair the packets that this interface sends; for those it receives, impair its peer.

        Call it again to change the impairment; `heal` ends it.

        Args:
            impairment: an `Impairment`, or the name of a ready-made one such as ``"LTE"``.
            values: instead, the values of an `Impairment`: ``delay="50ms"``, ``loss="1%"``, ``rate="10mbit"`` ...

        Returns:
            A handle that restores the previous impairment, by its ``heal()`` or at the end of a ``with`` block.

        Raises:
            InvalidTopologyError: an invalid value; lists the valid forms.
            UnavailableError: this machine cannot impair links.
        """
        return impair_all([self], impairment, values)

    def heal(self) -> None:
        """End the impairment of packets that this interface sends, if any."""
        self.namespace.lab.impairments.set(_target(self._link), None)

    def _read(self) -> rtlinks.LinkInfo:
        return self._link.home.read(self._link)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} in {self._link.home.name}>"


def impair_all(ends: Sequence[Interface], impairment: object, values: dict[str, Any]) -> Healable:
    """Impair the packets that these interfaces send; see `Interface.impair`."""
    from pytest_netns.faults.impair import InForce
    from pytest_netns.parts.impairment import given_impairment

    given = given_impairment(impairment, values)
    return InForce(ends[0].namespace.lab.impairments, tuple(_target(each.link) for each in ends), given)


def _target(link: Link) -> Target:
    from pytest_netns.faults.impair import Target

    return Target(link.home.network, link.index, link.name)


def handle(link: Link, of: type[Interface] = Interface) -> Interface:
    """The handle of an interface, always the same object, created as an object of the given class."""
    if link.handle is None:
        link.handle = of(link)
    interface: Interface = link.handle
    return interface


def parse_addresses(argument: AddressArgument) -> tuple[IPInterface, ...]:
    """Parse the addresses in an argument."""
    if argument is None:
        return ()
    if isinstance(argument, Sequence) and not isinstance(argument, str):
        parsed = tuple(values.parse_interface_address(item) for item in argument)
    else:
        parsed = (values.parse_interface_address(argument),)
    for address in parsed:
        if parsed.count(address) > 1:
            raise InvalidTopologyError(f"cannot use address '{address}' twice on one interface: give each address once")
    return parsed

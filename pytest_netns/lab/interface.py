"""Handles of interfaces. They hold only a name and an index: all properties are read from the kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, NetnsError
from pytest_netns.kernel.netlink import rtlinks
from pytest_netns.lab import connecting, ports, switching
from pytest_netns.lab.connecting import End
from pytest_netns.lab.links import Link
from pytest_netns.parts.impairment import Impairment, given_impairment, parse_impairment
from pytest_netns.running.halting import Healable
from pytest_netns.values import IPInterface

if TYPE_CHECKING:
    from pytest_netns.faults.impair import Target
    from pytest_netns.lab.namespace import Namespace

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
        return _impair((self,), impairment, values)

    def heal(self) -> None:
        """End the impairment of packets that this interface sends, if any."""
        self.namespace.lab.impairments.set(_target(self._link), None)

    def _read(self) -> rtlinks.LinkInfo:
        return self._link.home.read(self._link)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} in {self._link.home.name}>"


class VethPair(Sequence[Interface]):
    """A veth pair: what one end sends, the other receives. Unpacks as ``a, b = pair``."""

    __slots__ = ("__weakref__", "_ends")

    def __init__(self, a: Interface, b: Interface) -> None:
        self._ends = (a, b)

    @property
    def a(self) -> Interface:
        """The end in the first namespace."""
        return self._ends[0]

    @property
    def b(self) -> Interface:
        """The end in the second namespace."""
        return self._ends[1]

    def delete(self) -> None:
        """Delete both ends."""
        self.a.delete()

    def unplug(self) -> Healable:
        """Unplug the link: both ends lose their carrier, until `plug`, the end of a ``with`` block, or ``lab.heal()``.

        One end is set down: the bridge's, or the second. Its static routes and IPv6 addresses are restored when it is
        plugged in; the other end keeps its own.
        """
        kept = self.b if self.a.is_port else self.a
        return switching.unplug(self.a.namespace.lab.faults, [kept.link])

    def plug(self) -> None:
        """Plug it in again; does nothing unless it is unplugged."""
        switching.plug([self.a.link])

    def flap(self, times: int, *, down: float, up: float) -> None:
        """Unplug it and plug it in again, several times; returns after the last time.

        Args:
            times: the number of times.
            down, up: seconds for which it is unplugged, and then plugged in.
        """
        kept = self.b if self.a.is_port else self.a
        switching.flap(self.a.namespace.lab.faults, [kept.link], times, down, up)

    @property
    def impairment(self) -> Impairment | None:
        """The impairment of packets in each direction; None for none.

        Raises:
            NetnsError: the directions differ: read it at the ends.
        """
        first, second = self.a.impairment, self.b.impairment
        if first != second:
            raise NetnsError(
                f"cannot read a single impairment of {self!r}: {self.a.name} sends with {first}, {self.b.name} with "
                f"{second}; read it at its ends a and b"
            )
        return first

    def impair(self, impairment: Impairment | str | None = None, **values: Any) -> Healable:
        """Impair the link in each direction; see `Interface.impair`.

        A delay of 50 ms makes a round trip take 100 ms.
        """
        return _impair((self.a, self.b), impairment, values)

    def heal(self) -> None:
        """End the impairment in both directions."""
        for end in self:
            end.heal()

    @overload
    def __getitem__(self, index: int) -> Interface: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Interface]: ...

    def __getitem__(self, index: int | slice) -> Interface | Sequence[Interface]:
        return self._ends[index]

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Interface]:
        return iter(self._ends)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VethPair) and set(self) == set(other)

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def __repr__(self) -> str:
        return f"<VethPair {self.a!r} -- {self.b!r}>"


class Bridge(Interface):
    """A bridge: a switch in a namespace; an address on it connects that namespace too."""

    __slots__ = ()

    def attach(
        self,
        namespace: Namespace,
        address: AddressArgument = None,
        name: str | None = None,
        *,
        mtu: int | None = None,
        mac: str | None = None,
        impairment: Impairment | str | None = None,
        tag: int | None = None,
        trunks: Sequence[int] = (),
        isolated: bool = False,
        up: bool = True,
        offload: bool = True,
    ) -> Interface:
        """Join a namespace to the bridge by a veth pair.

        Args:
            namespace: the namespace of the other end.
            address: one or several addresses, with prefix length, of the other end.
            name: the interface's name in that namespace; default ``veth-NAMESPACE``.
            mtu: in bytes, for both ends; default: that of the bridge.
            mac: the MAC address inside the namespace.
            impairment: the impairment of the link, in each direction.
            tag: the port's VLAN, for a bridge with ``vlan_filtering=True``; frames in the namespace are untagged.
            trunks: the VLANs whose frames are tagged in the namespace.
            isolated: whether to block traffic to other isolated ports.
            up: whether to bring the interface inside up.
            offload: False for packets as on a physical wire, see `Lab.add_veth`.

        Returns:
            The interface inside the namespace.
        """
        refuse_interface(namespace)
        self.namespace.lab.check_member(namespace)
        vlans = ports.parse_vlans(tag, trunks)
        mtu = self._link.port_mtu if mtu is None else mtu
        port, inside = join(
            End(self._link.home, mtu=mtu),
            End(namespace.links, name, parse_addresses(address), mtu, mac, up=up),
            (impairment, impairment),
            bridge=self._link,
            offload=offload,
        )
        try:
            self._set_port(port.link, vlans, isolated=isolated)
        except BaseException:
            port.delete()
            raise
        self._link.home.settle(self._link)  # a bridge has a carrier once one of its ports has
        self._link.home.wait_link_local(self._link)
        return inside

    def add_port(
        self, interface: Interface | str, *, tag: int | None = None, trunks: Sequence[int] = (), isolated: bool = False
    ) -> None:
        """Make an interface of the same namespace a port of the bridge; the other arguments are those of `attach`."""
        vlans = ports.parse_vlans(tag, trunks)
        link = self.namespace.link_of(interface)
        self._link.home.set_master(link, self._link)
        self._set_port(link, vlans, isolated=isolated)

    def set_vlans(self, *, tag: int | None = None, trunks: Sequence[int] = ()) -> None:
        """Set the VLANs of the bridge's own namespace: ``tag`` is used by its address, ``trunks`` by VLAN interfaces."""
        ports.set_vlans(self._link, self._link, *ports.parse_vlans(tag, trunks))

    def _set_port(self, link: Link, vlans: tuple[int | None, tuple[int, ...]], *, isolated: bool) -> None:
        if vlans != (None, ()):
            ports.set_vlans(link, self._link, *vlans)
        if isolated:
            ports.isolate(link)


def refuse_interface(namespace: object) -> None:
    """Raise an error if attach() was given an interface instead of a namespace."""
    if isinstance(namespace, Interface):
        raise InvalidTopologyError(
            f"cannot attach {namespace!r}: attach takes a namespace, and adds a veth pair to it; "
            "for an interface of the bridge's own namespace use bridge.add_port(interface)"
        )


def join(
    a: End,
    b: End,
    impairments: tuple[Impairment | str | None, Impairment | str | None] = (None, None),
    *,
    bridge: Link | None = None,
    offload: bool = True,
    queues: int | None = None,
) -> VethPair:
    """Create a veth pair; see `connecting.connect`.

    Args:
        impairments: the impairment of packets that each end sends. An invalid one leaves nothing behind.
    """
    if not any(impairments):
        return VethPair(*map(handle, connecting.connect(a, b, bridge=bridge, offload=offload, queues=queues)))
    parsed = [None if each is None else parse_impairment(each) for each in impairments]
    pair = VethPair(*map(handle, connecting.connect(a, b, bridge=bridge, offload=offload, queues=queues)))
    try:
        for end, each in zip(pair, parsed, strict=True):
            if each is not None:
                end.impair(each)
    except BaseException:
        pair.delete()
        raise
    return pair


def _impair(ends: tuple[Interface, ...], impairment: object, values: dict[str, Any]) -> Healable:
    from pytest_netns.faults.impair import InForce

    given = given_impairment(impairment, values)
    return InForce(ends[0].namespace.lab.impairments, tuple(_target(each.link) for each in ends), given)


def _target(link: Link) -> Target:
    from pytest_netns.faults.impair import Target

    return Target(link.home.network, link.index, link.name)


def handle(link: Link, kind: str = "") -> Interface:
    """The handle of an interface, always the same object."""
    if link.handle is None:
        link.handle = Bridge(link) if kind == "bridge" else Interface(link)
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

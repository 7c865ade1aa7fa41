"""Handles of interfaces. They hold a name and an index only: everything they tell is read from the kernel."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, KernelError
from pytest_netns.kernel.netlink import rtaddresses, rtlinks, rtroutes
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.spaces import carrier
from pytest_netns.values import IPInterface, naming

if TYPE_CHECKING:
    from pytest_netns.lab.namespace import Namespace

_USABLE_DEADLINE = 1.0  # seconds; it takes the kernel well under a millisecond unless the machine is overloaded

#: An address with prefix length, or several; None for none.
AddressArgument: TypeAlias = str | IPInterface | Sequence[str | IPInterface] | None


class Interface:
    """A network interface of a namespace.

    Attributes:
        name: 1 to 15 characters.
        namespace: the namespace it is in.
        index: its number in that namespace.
    """

    def __init__(self, namespace: Namespace, name: str, index: int) -> None:
        self.namespace = namespace
        self.name = name
        self.index = index
        self._peer: Interface | None = None

    @property
    def peer(self) -> Interface | None:
        """The other end of a veth pair; None for other kinds."""
        return self._peer

    @property
    def mac(self) -> str:
        """MAC address, such as ``"02:00:00:00:00:01"``; may be set."""
        return self._read().mac

    @mac.setter
    def mac(self, value: str) -> None:
        self._change(rtlinks.set_link(self.index, self.name, mac=values.parse_mac(value)))

    @property
    def mtu(self) -> int:
        """MTU in bytes; may be set."""
        return self._read().mtu

    @mtu.setter
    def mtu(self, value: int) -> None:
        self._change(rtlinks.set_link(self.index, self.name, mtu=values.parse_mtu(value)))

    @property
    def is_up(self) -> bool:
        """Whether it is switched on; whether it can carry packets also depends on its peer."""
        return bool(self._read().flags & rtlinks.IFF_UP)

    @property
    def kind(self) -> str:
        """The kernel's name for its kind: ``"veth"``, ``"bridge"``, ``"loopback"`` ..."""
        return self._read().kind

    @property
    def addresses(self) -> list[IPInterface]:
        """All addresses with prefix length, IPv6 link-local ones included."""
        listed = self.namespace._netlink.dump(rtaddresses.dump_addresses(), rtaddresses.parse_address)
        return [address for index, address in listed if index == self.index]

    def up(self) -> None:
        """Switch it on."""
        self._change(rtlinks.set_link(self.index, self.name, up=True))
        for end in (self, self._peer):
            if end is not None:
                end._settle()

    def down(self) -> None:
        """Switch it off; its routes and IPv6 addresses go with that."""
        self._change(rtlinks.set_link(self.index, self.name, up=False))
        self._addresses_changed()

    def add_address(self, address: str | IPInterface) -> None:
        """Add an address, usable at once.

        Raises:
            InvalidTopologyError: no prefix length, or not an address a host can have.
            KernelError: the interface has it already, or is gone.
        """
        parsed = values.parse_interface_address(address)
        self._change(rtaddresses.add_address(self.index, self.name, parsed))
        self._addresses_changed()
        if parsed.version == 6 and self.is_up:
            self._wait_usable([parsed])

    def remove_address(self, address: str | IPInterface) -> None:
        """Remove an address."""
        self._change(rtaddresses.remove_address(self.index, self.name, values.parse_interface_address(address)))
        self._addresses_changed()

    def delete(self) -> None:
        """Delete the interface; of a veth pair, both ends."""
        self._change(rtlinks.delete_link(self.index, self.name))
        self._addresses_changed()

    def _settle(self) -> None:
        """Have a carrier it has just got take effect at once."""
        carrier.settle(self.namespace._netlink, self.name)

    def _wait_usable(self, addresses: Sequence[IPInterface]) -> None:
        """Wait until packets to IPv6 addresses that were just added are taken in; the interface must be up.

        The kernel adds their local routes from a work queue, a moment after it has answered; what arrives before is lost.
        """
        deadline = time.monotonic() + _USABLE_DEADLINE
        for address in addresses:
            if address.version == 6:
                while not self._is_local(address) and time.monotonic() < deadline:
                    os.sched_yield()

    def _is_local(self, address: IPInterface) -> bool:
        try:
            return self.namespace._netlink.get(rtroutes.find_route(address.ip), rtroutes.parse_is_local)
        except KernelError:  # no route at all yet
            return False

    def _read(self) -> rtlinks.LinkInfo:
        return self.namespace._netlink.get(rtlinks.get_link(self.index, self.name), rtlinks.parse_link)

    def _change(self, *requests: Request) -> None:
        self.namespace._netlink.request(*requests)

    def _addresses_changed(self) -> None:
        ends = [self.namespace] if self._peer is None else [self.namespace, self._peer.namespace]
        self.namespace._lab.names.changed(*(end.name for end in ends))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} in {self.namespace.name}>"


class VethPair(Sequence[Interface]):
    """Two interfaces joined by a cable: what enters one leaves the other. Unpacks as ``a, b = pair``."""

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

    def __getitem__(self, index: int) -> Interface:  # type: ignore[override]
        return self._ends[index]

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Interface]:
        return iter(self._ends)

    def __repr__(self) -> str:
        return f"<VethPair {self.a!r} -- {self.b!r}>"


class Bridge(Interface):
    """A bridge: a switch inside a namespace; an address on it lets that namespace take part."""

    def attach(
        self,
        namespace: Namespace,
        address: AddressArgument = None,
        name: str | None = None,
        *,
        mtu: int | None = None,
        mac: str | None = None,
    ) -> Interface:
        """Join a namespace to the bridge by a veth pair.

        Args:
            namespace: where the other end goes.
            address: its address with prefix length, or several.
            name: the interface's name in that namespace; default ``veth-NAMESPACE``.
            mtu: in bytes, for both ends.
            mac: the MAC address inside the namespace.

        Returns:
            The interface inside the namespace.
        """
        lab = self.namespace._lab
        taken = self.namespace._names
        inside = naming.default_interface_name(namespace.name, namespace._names) if name is None else name
        outside = naming.bridge_side_name(namespace.name, taken)
        pair = lab._connect(
            (self.namespace, namespace),
            ((), parse_addresses(address)),
            (outside, inside),
            (mtu, mtu),
            (None, mac),
            bridge=self,
        )
        self._settle()  # a bridge has a carrier once one of its ports has
        return pair.b


def parse_addresses(argument: AddressArgument) -> tuple[IPInterface, ...]:
    """The addresses in an argument, checked."""
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

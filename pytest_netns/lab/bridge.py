"""Handles of bridges, and of their ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.lab import ports
from pytest_netns.lab.connecting import End
from pytest_netns.lab.interface import AddressArgument, Interface, parse_addresses
from pytest_netns.lab.link import Link
from pytest_netns.lab.veth_pair import join

if TYPE_CHECKING:
    from pytest_netns.lab.namespace import Namespace
    from pytest_netns.parts.impairment import Impairment


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


#: The classes of interfaces by kind; `Interface` for others.
CLASSES: Final[Mapping[str, type[Interface]]] = {"bridge": Bridge}

"""The methods of Lab that join namespaces: veth pairs, bridges, Open vSwitch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, NetnsError
from pytest_netns.lab import connecting
from pytest_netns.lab.bridge import Bridge
from pytest_netns.lab.connecting import End
from pytest_netns.lab.fault_methods import FaultMethods
from pytest_netns.lab.interface import AddressArgument, handle, parse_addresses
from pytest_netns.lab.link import Link
from pytest_netns.lab.links import Links
from pytest_netns.lab.namespace import Namespace
from pytest_netns.lab.veth_pair import VethPair, join
from pytest_netns.values import IPInterface

if TYPE_CHECKING:
    from pytest_netns.lab.openvswitch import OpenVSwitch, SwitchDaemons
    from pytest_netns.parts.impairment import Impairment

BRIDGES = ("bridge", "openvswitch")
_NO_BRIDGE_FILTERS = {f"net.bridge.bridge-nf-call-{filter_}": 0 for filter_ in ("iptables", "ip6tables", "arptables")}


class LinkMethods(FaultMethods):
    """The part of `Lab` that joins namespaces; takes the arguments of `FaultMethods`."""

    __slots__ = ("_switches",)

    def __init__(self, owner: str, engine: str) -> None:
        super().__init__(owner, engine)
        self._switches: dict[str, SwitchDaemons] = {}

    @property
    def host(self) -> Namespace:
        """The default namespace of bridges."""
        raise NotImplementedError

    def add_veth(
        self,
        red: Namespace,
        blue: Namespace,
        *,
        addresses: tuple[AddressArgument, AddressArgument] = (None, None),
        names: tuple[str | None, str | None] = (None, None),
        mtu: int | None = None,
        impairment: Impairment | str | None = None,
        macs: tuple[str | None, str | None] = (None, None),
        indexes: tuple[int | None, int | None] = (None, None),
        up: bool = True,
        queues: int | None = None,
        offload: bool = True,
    ) -> VethPair:
        """Join two namespaces by a veth pair with one end in each, both up.

        Args:
            red, blue: the namespaces of the two ends; may be the same.
            addresses: an address with prefix length for each end; or several, or None, for an end.
            names: the interfaces' names; default ``veth-NAMESPACE``.
            mtu: in bytes, for both ends.
            impairment: the impairment of packets in each direction, see `VethPair.impair`.
            macs: MAC addresses; default: derived from the names of namespace and interface.
            indexes: the interfaces' indexes; default: free ones.
            up: whether to bring them up.
            queues: the number of transmit queues and of receive queues of each.
            offload: False for packets as on a physical wire: with checksums, and no larger than the MTU.
        """
        if any(len(each) != 2 for each in (addresses, names, macs, indexes)):
            raise InvalidTopologyError(
                "cannot add veth pair: addresses, names, macs and indexes take two items, one for each end"
            )
        parsed = (parse_addresses(addresses[0]), parse_addresses(addresses[1]))
        for namespace in (red, blue):
            self.check_member(namespace)
        a, b = (
            End(namespace.links, name, own_addresses, mtu, mac, index, up)
            for namespace, name, own_addresses, mac, index in zip(
                (red, blue), names, parsed, macs, indexes, strict=True
            )
        )
        return join(a, b, (impairment, impairment), offload=offload, queues=queues)

    @overload
    def add_bridge(
        self,
        name: str,
        address: AddressArgument = None,
        *,
        namespace: Namespace | None = None,
        mtu: int | None = None,
        kind: Literal["openvswitch"],
    ) -> OpenVSwitch: ...

    @overload
    def add_bridge(
        self,
        name: str,
        address: AddressArgument = None,
        *,
        namespace: Namespace | None = None,
        mtu: int | None = None,
        kind: str = "bridge",
        **options: Any,
    ) -> Bridge: ...

    def add_bridge(
        self,
        name: str,
        address: AddressArgument = None,
        *,
        namespace: Namespace | None = None,
        mtu: int | None = None,
        kind: str = "bridge",
        **options: Any,
    ) -> Bridge:
        """Add a bridge: a switch that joins many namespaces, see `Bridge.attach`.

        Args:
            name: the interface's name.
            address: one or several addresses, with prefix length, for its namespace on the bridge.
            namespace: the namespace it is in; default ``lab.host``.
            mtu: in bytes.
            kind: ``"bridge"``, the kernel's; or ``"openvswitch"``, for VLANs and OpenFlow: see `OpenVSwitch`.
            options: ``vlan_filtering=True`` for VLANs, ``stp=True`` for spanning tree (ports then start forwarding
                after some seconds), and other options of ip-link(8), as `Namespace.add_interface` accepts them.
        """
        self.check_open()
        addresses = parse_addresses(address)
        values.parse_interface_name(name)
        place = self.host if namespace is None else namespace
        self.check_member(place)
        if values.parse_choice(kind, BRIDGES, "kind of bridge") == "openvswitch":
            return self._add_openvswitch(place, name, addresses, mtu, options)
        bridge = self._add_bridge(place.links, name, addresses, mtu, options)
        # br_netfilter would pass bridged frames to nft, and NAT would apply in the wrong place.
        with contextlib.suppress(NetnsError):  # br_netfilter is not loaded
            place.settings.write(_NO_BRIDGE_FILTERS)
        made = handle(bridge, Bridge)
        assert isinstance(made, Bridge)
        return made

    def _add_openvswitch(
        self, place: Namespace, name: str, addresses: Sequence[IPInterface], mtu: int | None, options: Mapping[str, Any]
    ) -> OpenVSwitch:
        from pytest_netns.lab import openvswitch

        if options:
            raise InvalidTopologyError(
                f"cannot use {next(iter(options))!r} for an Open vSwitch bridge: give tag= and trunks= to attach()"
            )
        if mtu is not None:
            values.parse_mtu(mtu)
        if place.links.is_taken(name):
            raise InvalidTopologyError(
                f"cannot add bridge {name!r}: namespace {place.name!r} already has an interface of that name"
            )
        with self.links.lock:
            if place.name not in self._switches:
                self._switches[place.name] = openvswitch.SwitchDaemons(place.programs)
                self.at_end(self._switches[place.name].close)
        made = openvswitch.add(place, self._switches[place.name], name, addresses, mtu)
        self.notes.add(made)
        return made

    @staticmethod
    def _add_bridge(
        links: Links, name: str, addresses: Sequence[IPInterface], mtu: int | None, options: Mapping[str, Any]
    ) -> Link:
        if not options:
            return connecting.add_bridge(links, name, addresses, mtu)
        from pytest_netns.lab import making

        return making.add_link(links, making.check_new("bridge", name, options, on=None, mtu=mtu, addresses=addresses))

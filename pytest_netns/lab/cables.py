"""What joins the namespaces of a lab: cables, bridges, Open vSwitch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, NetnsError
from pytest_netns.lab import connecting
from pytest_netns.lab.connecting import End
from pytest_netns.lab.fault_methods import FaultMethods
from pytest_netns.lab.interface import AddressArgument, Bridge, VethPair, handle, join, parse_addresses
from pytest_netns.lab.links import Link, Links
from pytest_netns.lab.namespace import Namespace
from pytest_netns.parts.impairment import Impairment
from pytest_netns.values import IPInterface

if TYPE_CHECKING:
    from pytest_netns.lab.openvswitch import OpenVSwitch, SwitchDaemons

BRIDGES = ("bridge", "openvswitch")
_NO_BRIDGE_FILTERS = {f"net.bridge.bridge-nf-call-{filter_}": 0 for filter_ in ("iptables", "ip6tables", "arptables")}


class Cables(FaultMethods):
    """The part of `Lab` that joins namespaces; the arguments are those of `FaultMethods`."""

    __slots__ = ("_switches",)

    def __init__(self, owner: str, engine: str) -> None:
        super().__init__(owner, engine)
        self._switches: dict[str, SwitchDaemons] = {}

    @property
    def host(self) -> Namespace:
        """The namespace that bridges are in unless told otherwise."""
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
        """Join two namespaces by a cable: a veth pair with one end in each, both up.

        Args:
            red, blue: where the ends go; may be the same.
            addresses: one for each end, with prefix length; each may be several, or None.
            names: of the interfaces; default ``veth-NAMESPACE``.
            mtu: in bytes, for both ends.
            impairment: what happens to packets in each direction, see `VethPair.impair`.
            macs: MAC addresses; default ones that follow from the names of namespace and interface.
            indexes: the interfaces' numbers; default ones that are free.
            up: whether they are switched on.
            queues: how many each has, for sending and for receiving.
            offload: False to have packets as they would be on a wire: checksums filled in, none larger than the MTU.
        """
        if any(len(each) != 2 for each in (addresses, names, macs, indexes)):
            raise InvalidTopologyError(
                "cannot add veth pair: addresses, names, macs and indexes take two items, one for each end"
            )
        parsed = (parse_addresses(addresses[0]), parse_addresses(addresses[1]))
        for namespace in (red, blue):
            self.check_member(namespace)
        a, b = (
            End(namespace.links, name, own, mtu, mac, index, up)
            for namespace, name, own, mac, index in zip((red, blue), names, parsed, macs, indexes, strict=True)
        )
        return join(a, b, (impairment, impairment), offload=offload, queues=queues)

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
        """Make a bridge: a switch that joins many namespaces, see `Bridge.attach`.

        Args:
            name: the interface's name.
            address: an address for its namespace on the bridge, with prefix length, or several.
            namespace: where it is; default ``lab.host``.
            mtu: in bytes.
            kind: ``"bridge"``, the kernel's; or ``"openvswitch"``, for VLANs and OpenFlow: see `OpenVSwitch`.
            options: ``vlan_filtering=True`` for VLANs, ``stp=True`` for spanning tree (ports then forward after some
                seconds), and others of ip-link(8), as `Namespace.add_interface` takes them.
        """
        self.check_open()
        addresses = parse_addresses(address)
        values.parse_interface_name(name)
        place = self.host if namespace is None else namespace
        self.check_member(place)
        if values.parse_choice(kind, BRIDGES, "kind of bridge") == "openvswitch":
            return self._add_openvswitch(place, name, addresses, mtu, options)
        bridge = self._add_bridge(place.links, name, addresses, mtu, options)
        # The bridge module may hand what crosses a bridge to nft; NAT would then happen in the wrong place.
        with contextlib.suppress(NetnsError):  # the module is not loaded
            place.settings.write(_NO_BRIDGE_FILTERS)
        made = handle(bridge, "bridge")
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
                f"cannot add bridge {name!r}: namespace {place.name!r} has an interface of that name already"
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

        return making.add_link(links, making.wanted("bridge", name, options, on=None, mtu=mtu, addresses=addresses))

"""A bridge and its ports; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pytest_netns.parts import keys
from pytest_netns.parts.keys import REQUIRED, Part, as_many, many, one
from pytest_netns.parts.links.ends import InterfaceAddresses, InterfaceSpec
from pytest_netns.values import IPInterface, IPNetwork
from pytest_netns.values.notes import Note


class PortSpec(InterfaceSpec):
    """A bridge port: a namespace, and its interface on the bridge.

    Its ``impairment`` is that of its link, in each direction. See `InterfaceSpec`.
    """

    def notes(self) -> Iterator[Note]:
        if self.impairment is not None:
            yield Note(self.namespace, f"sends and receives: {self.impairment}", self.name or "")


@dataclass(frozen=True, init=False)
class BridgeSpec(Part):
    """A bridge, and the namespaces attached to it.

    With ``subnet`` (``subnet6`` for IPv6) every interface without an address of that family gets one: the ports .1, .2 ...
    in order, the bridge .254 (the 254th address: ``fd00::fe``) or the last one of a smaller subnet, except for addresses
    already in use.

    Attributes:
        name: the bridge's name.
        namespace: the namespace it is in.
        addresses: the bridge's own addresses; ``address`` and ``addresses`` both take one or several.
        ports: the namespaces attached to it.
        subnet: the IPv4 network from which addresses are assigned; None for none.
        subnet6: the IPv6 network from which addresses are assigned; None for none.
        gateway: whether the attached namespaces get a default route via the bridge.
        mtu: in bytes, of the bridge and of ports without their own; None for 1500.
    """

    name: str = field(metadata=one("name", keys.INTERFACE_NAME, "The bridge's name.", REQUIRED))
    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The namespace it is in; default 'host'.", "host"))
    addresses: tuple[IPInterface, ...] = field(
        metadata=many("address", keys.INTERFACE_ADDRESS, "The bridge's own address.")
    )
    subnet: IPNetwork | None = field(
        metadata=one("subnet", keys.SUBNET4, "The IPv4 network from which interfaces without an address get one.")
    )
    subnet6: IPNetwork | None = field(
        metadata=one("subnet6", keys.SUBNET6, "The IPv6 network from which interfaces without an address get one.")
    )
    gateway: bool = field(
        metadata=one("gateway", keys.FLAG, "Whether the ports get a default route via the bridge.", False)
    )
    mtu: int | None = field(
        metadata=one("mtu", keys.MTU, "MTU in bytes, of the bridge and of ports without their own.")
    )
    ports: tuple[PortSpec, ...] = field(metadata=many("ports", PortSpec, "The namespaces attached to it."))

    def __init__(
        self,
        name: str,
        *,
        namespace: str = "host",
        address: InterfaceAddresses | None = None,
        addresses: InterfaceAddresses = (),
        ports: Iterable[PortSpec] = (),
        subnet: str | IPNetwork | None = None,
        subnet6: str | IPNetwork | None = None,
        gateway: bool = False,
        mtu: int | None = None,
    ) -> None:
        own_addresses = as_many(address) + as_many(addresses)
        self._fill(
            name=name, namespace=namespace, addresses=own_addresses, ports=ports,
            subnet=subnet, subnet6=subnet6, gateway=gateway, mtu=mtu,
        )  # fmt: skip

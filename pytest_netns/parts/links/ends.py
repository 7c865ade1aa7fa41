"""The common properties of bridge ports and veth ends; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pytest_netns.parts import keys
from pytest_netns.parts.impairment import Impairment
from pytest_netns.parts.keys import REQUIRED, Part, as_many, many, one
from pytest_netns.values import IPInterface

InterfaceAddresses: TypeAlias = str | IPInterface | Iterable[str | IPInterface]


@dataclass(frozen=True, init=False)
class InterfaceSpec(Part):
    """An interface in a namespace: a bridge's port or the end of a veth pair.

    Attributes:
        namespace: the name of the namespace.
        addresses: its IPv4 and IPv6 addresses; ``address`` and ``addresses`` both take one or several.
        name: the interface's name; None for ``veth-NAMESPACE``.
        mtu: in bytes; None for that of the bridge or veth pair.
        mac: MAC address; None for the kernel's choice.
        impairment: the impairment of its link; None for none.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The namespace the interface is in.", REQUIRED))
    addresses: tuple[IPInterface, ...] = field(
        metadata=many("address", keys.INTERFACE_ADDRESS, "Its address or addresses.")
    )
    name: str | None = field(
        metadata=one("name", keys.INTERFACE_NAME, "The interface's name; default 'veth-NAMESPACE'.")
    )
    mtu: int | None = field(metadata=one("mtu", keys.MTU, "MTU in bytes; default that of the bridge or veth pair."))
    mac: str | None = field(metadata=one("mac", keys.MAC, "MAC address; default the kernel's choice."))
    impairment: Impairment | None = field(
        metadata=one(
            "impairment", keys.IMPAIRMENT, "The impairment of what a veth end sends, or of a bridge port's link."
        )
    )

    def __init__(
        self,
        namespace: str,
        *,
        address: InterfaceAddresses | None = None,
        addresses: InterfaceAddresses = (),
        name: str | None = None,
        mtu: int | None = None,
        mac: str | None = None,
        impairment: Impairment | Mapping[str, Any] | str | None = None,
    ) -> None:
        own_addresses = as_many(address) + as_many(addresses)
        self._fill(namespace=namespace, addresses=own_addresses, name=name, mtu=mtu, mac=mac, impairment=impairment)

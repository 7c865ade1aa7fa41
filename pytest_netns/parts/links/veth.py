"""A veth pair and its ends; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pytest_netns.parts import keys
from pytest_netns.parts.keys import REQUIRED, Part, many, one
from pytest_netns.parts.links.ends import InterfaceSpec
from pytest_netns.values import IPNetwork


class VethEnd(InterfaceSpec):
    """One end of a veth pair; see `InterfaceSpec`."""


@dataclass(frozen=True, init=False)
class VethSpec(Part):
    """A veth pair: a cable between two namespaces.

    Attributes:
        ends: its two ends.
        subnet: IPv4 network whose first addresses go to the ends without one; None for none.
        subnet6: the same for IPv6.
        mtu: in bytes, of the ends without one; None for 1500.
    """

    subnet: IPNetwork | None = field(
        metadata=one("subnet", keys.SUBNET4, "IPv4 network whose first addresses go to ends without one.")
    )
    subnet6: IPNetwork | None = field(
        metadata=one("subnet6", keys.SUBNET6, "IPv6 network whose first addresses go to ends without one.")
    )
    mtu: int | None = field(metadata=one("mtu", keys.MTU, "MTU in bytes, of ends without one."))
    ends: tuple[VethEnd, VethEnd] = field(metadata=many("ends", VethEnd, "The two ends.", REQUIRED))

    def __init__(
        self,
        ends: Iterable[VethEnd],
        *,
        subnet: str | IPNetwork | None = None,
        subnet6: str | IPNetwork | None = None,
        mtu: int | None = None,
    ) -> None:
        self._fill(ends=ends, subnet=subnet, subnet6=subnet6, mtu=mtu)

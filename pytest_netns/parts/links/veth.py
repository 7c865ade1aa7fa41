"""A veth pair and its ends; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_netns.parts import keys
from pytest_netns.parts.impairment import Impairment
from pytest_netns.parts.keys import REQUIRED, Part, many, one
from pytest_netns.parts.links.ends import InterfaceSpec
from pytest_netns.values import IPNetwork
from pytest_netns.values.notes import Note


class VethEnd(InterfaceSpec):
    """One end of a veth pair; its ``impairment`` is that of packets this end sends. See `InterfaceSpec`."""

    def notes(self) -> Iterator[Note]:
        if self.impairment is not None:
            yield Note(self.namespace, f"sends: {self.impairment}", self.name or "")


@dataclass(frozen=True, init=False)
class VethSpec(Part):
    """A veth pair: a link between two namespaces.

    Attributes:
        ends: its two ends.
        subnet: the IPv4 network whose first addresses go to ends without an address; None for none.
        subnet6: the same for IPv6.
        mtu: in bytes, of ends without their own; None for 1500.
        impairment: the impairment in each direction, of ends without their own; None for none.
    """

    subnet: IPNetwork | None = field(
        metadata=one("subnet", keys.SUBNET4, "The IPv4 network whose first addresses go to ends without an address.")
    )
    subnet6: IPNetwork | None = field(
        metadata=one("subnet6", keys.SUBNET6, "The IPv6 network whose first addresses go to ends without an address.")
    )
    mtu: int | None = field(metadata=one("mtu", keys.MTU, "MTU in bytes, of ends without their own."))
    impairment: Impairment | None = field(
        metadata=one("impairment", keys.IMPAIRMENT, "The impairment in each direction, of ends without their own.")
    )
    ends: tuple[VethEnd, VethEnd] = field(metadata=many("ends", VethEnd, "The two ends.", REQUIRED))

    def __init__(
        self,
        ends: Iterable[VethEnd],
        *,
        subnet: str | IPNetwork | None = None,
        subnet6: str | IPNetwork | None = None,
        mtu: int | None = None,
        impairment: Impairment | Mapping[str, Any] | str | None = None,
    ) -> None:
        self._fill(ends=ends, subnet=subnet, subnet6=subnet6, mtu=mtu, impairment=impairment)

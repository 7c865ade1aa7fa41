"""Routes and neighbours as a namespace's kernel tables show them."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_netns.values import IPAddress, IPNetwork


@dataclass(frozen=True)
class Route:
    """A route of the main table.

    Attributes:
        destination: the network; ``0.0.0.0/0`` or ``::/0`` for the default route.
        via: the gateway; None for a directly connected network.
        interface: the name of the interface packets leave by.
        metric: of several routes to a destination, the one with the lowest is used.
    """

    destination: IPNetwork
    via: IPAddress | None
    interface: str
    metric: int = 0

    @property
    def is_default(self) -> bool:
        """Whether it is the default route."""
        return self.destination.prefixlen == 0

    def __str__(self) -> str:
        via = f" via {self.via}" if self.via is not None else ""
        return f"{'default' if self.is_default else self.destination}{via} dev {self.interface}"


@dataclass(frozen=True)
class Neighbour:
    """An entry of the neighbour table: ARP for IPv4, neighbour discovery for IPv6.

    Attributes:
        address: whose MAC address it tells.
        mac: empty while unknown.
        interface: the name of the interface it is reached by.
        state: ``"reachable"``, ``"stale"``, ``"failed"`` ..., as `ip neighbour` shows, in lower case.
    """

    address: IPAddress
    mac: str
    interface: str
    state: str

    def __str__(self) -> str:
        return f"{self.address} {self.mac or 'unknown'} dev {self.interface} {self.state}"

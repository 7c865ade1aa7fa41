"""A route; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from pytest_netns.parts import keys
from pytest_netns.parts.keys import REQUIRED, Part, one
from pytest_netns.values import IPAddress, IPNetwork
from pytest_netns.values.notes import Note


@dataclass(frozen=True, init=False)
class RouteSpec(Part):
    """A route.

    Attributes:
        namespace: where it is.
        destination: a network, or ``"default"``, which is of the gateway's family.
        via: the gateway: an address, or the name of a neighbouring namespace; None for none.
        dev: the name of the interface; None for the kernel's choice.
        metric: priority, 0 to 4294967295, lower is preferred; None for the kernel's choice.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The namespace the route is in.", REQUIRED))
    destination: IPNetwork | Literal["default"] = field(
        metadata=one("destination", keys.DESTINATION, "A network.", REQUIRED)
    )
    via: IPAddress | str | None = field(
        metadata=one("via", keys.GATEWAY, "The gateway: an address, or a neighbouring namespace.")
    )
    dev: str | None = field(metadata=one("dev", keys.DEVICE, "The name of the interface."))
    metric: int | None = field(metadata=one("metric", keys.METRIC, "Priority; the lower one is preferred."))

    def __init__(
        self,
        namespace: str,
        destination: str | IPNetwork | IPAddress,
        *,
        via: str | IPAddress | None = None,
        dev: str | None = None,
        metric: int | None = None,
    ) -> None:
        self._fill(namespace=namespace, destination=destination, via=via, dev=dev, metric=metric)

    def notes(self) -> Iterator[Note]:
        """Where it leads."""
        via = f" via {self.via}" if self.via else ""
        dev = f" dev {self.dev}" if self.dev else ""
        yield Note(self.namespace, f"{self.destination}{via}{dev}")

"""A route; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.parts import keys
from pytest_netns.parts.keys import REQUIRED, Kind, Part, as_many, many, one
from pytest_netns.values import IPAddress, IPNetwork, parse_choice
from pytest_netns.values.notes import Note

Gateway: TypeAlias = str | IPAddress

#: The numbers of the named routing tables, linux/rtnetlink.h.
TABLES: Final = {"local": 255, "main": 254, "default": 253}
MAIN: Final = TABLES["main"]
#: Types of routes that have neither gateway nor interface.
WITHOUT_GATEWAY: Final = ("blackhole", "unreachable", "prohibit", "throw")
ROUTE_TYPES: Final = (*WITHOUT_GATEWAY, "unicast", "local")
_MAX_TABLE: Final = 2**32 - 1


def parse_table(value: object) -> int:
    """The number of a routing table."""
    if isinstance(value, str) and value in TABLES:
        return TABLES[value]
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_TABLE:
        return value
    names = ", ".join(map(repr, TABLES))
    raise InvalidTopologyError(
        f"cannot use {value!r} as routing table: use {names}, or a number from 1 to {_MAX_TABLE}"
    )


def parse_type(value: object) -> str:
    """The type of a route."""
    return parse_choice(value, ROUTE_TYPES, "type of a route")


TABLE = Kind(
    parse_table,
    {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": _MAX_TABLE}, {"enum": list(TABLES)}],
        "examples": [101, "local"],
    },
)
TYPE = Kind(parse_type, {"enum": list(ROUTE_TYPES), "examples": ["unreachable"]})


@dataclass(frozen=True, init=False)
class RouteSpec(Part):
    """A route.

    Attributes:
        namespace: the namespace it is in.
        destination: a network, or ``"default"``, in the gateway's family.
        gateways: addresses, or names of neighbouring namespaces; several for a multipath route, none for a directly
            connected network and for types without gateway. ``via`` takes one or several.
        dev: the name of the interface; None for the kernel's choice.
        metric: priority, 0 to 4294967295, lower is preferred; None for the kernel's choice.
        table: the number of the routing table; None for the main one. Names are ``"main"``, ``"local"``, ``"default"``.
        type: ``"unicast"``; ``"blackhole"``, ``"unreachable"``, ``"prohibit"`` or ``"throw"``, which have no gateway;
            ``"local"``.
        source: the source address of packets sent by this route; None for the kernel's choice.
        onlink: whether the gateway is reached directly through ``dev``, although it is on no network of that interface.
    """

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The namespace the route is in.", REQUIRED))
    destination: IPNetwork | Literal["default"] = field(
        metadata=one("destination", keys.DESTINATION, "A network.", REQUIRED)
    )
    gateways: tuple[IPAddress | str, ...] = field(
        metadata=many(
            "via", keys.GATEWAY, "The gateway: an address, or a neighbouring namespace; several for multipath."
        )
    )
    dev: str | None = field(metadata=one("dev", keys.DEVICE, "The name of the interface."))
    metric: int | None = field(metadata=one("metric", keys.METRIC, "Priority; the lower one is preferred."))
    table: int | None = field(metadata=one("table", TABLE, "The routing table; default the main one."))
    type: str = field(
        metadata=one("type", TYPE, "'unicast', 'blackhole', 'unreachable', 'prohibit', 'throw' or 'local'.", "unicast")
    )
    source: IPAddress | None = field(metadata=one("source", keys.ADDRESS, "The source address of packets sent by it."))
    onlink: bool = field(
        metadata=one("onlink", keys.FLAG, "Whether the gateway is reached through dev without a network.", False)
    )

    def __init__(
        self,
        namespace: str,
        destination: str | IPNetwork | IPAddress,
        *,
        via: Gateway | Iterable[Gateway] | None = None,
        gateways: Iterable[Gateway] = (),
        dev: str | None = None,
        metric: int | None = None,
        table: int | str | None = None,
        type: str = "unicast",
        source: str | IPAddress | None = None,
        onlink: bool = False,
    ) -> None:
        self._fill(
            namespace=namespace,
            destination=destination,
            gateways=as_many(via) + as_many(gateways),
            dev=dev,
            metric=metric,
            table=table,
            type=type,
            source=source,
            onlink=onlink,
        )

    @property
    def via(self) -> IPAddress | str | None:
        """The gateway, the first one of a multipath route; None for none."""
        return self.gateways[0] if self.gateways else None

    @property
    def leads_nowhere(self) -> bool:
        """Whether its type has neither gateway nor interface."""
        return self.type in WITHOUT_GATEWAY

    def notes(self) -> Iterator[Note]:
        """The route as ip-route(8) shows it."""
        words = [self.type] if self.type != "unicast" else []
        words.append(str(self.destination))
        dev = [f"dev {self.dev}"] if self.dev else []
        several = ["nexthop"] if len(self.gateways) > 1 else []
        for gateway in self.gateways:
            words += [*several, f"via {gateway}", *dev]
        words += [] if self.gateways else dev
        words += ["onlink"] if self.onlink else []
        if self.table not in (None, MAIN):
            names = {number: name for name, number in TABLES.items()}
            words.append(f"table {names.get(self.table, self.table)}")
        words += [f"src {self.source}"] if self.source is not None else []
        yield Note(self.namespace, " ".join(words))

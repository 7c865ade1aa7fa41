"""Decide what a topology leaves open: names, addresses, default routes, gateways given by name; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_interface

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.parts.keys import as_many
from pytest_netns.parts.links.bridge import BridgeSpec
from pytest_netns.parts.links.ends import InterfaceSpec
from pytest_netns.parts.links.other import LinkSpec
from pytest_netns.parts.links.veth import VethSpec
from pytest_netns.parts.routes import MAIN, RouteSpec
from pytest_netns.topology.segments import Segment
from pytest_netns.values import IPAddress, IPInterface, IPNetwork
from pytest_netns.values.naming import bridge_side_name, default_interface_name

GATEWAY_NUMBER = 254


@dataclass(frozen=True)
class PlannedInterface:
    """A planned interface, with its final name and addresses.

    Attributes:
        path: the key path of its part, such as ``"bridges[0].ports[1]"``.
        segment: the key path of the bridge or veth pair; namespaces that share it can communicate without a gateway.
        namespace: the name of the namespace it is in.
        name: its name.
        addresses: its addresses.
        mtu: in bytes; None for 1500.
        bridge: the bridge in the same namespace that it is a port of; None for none.
        peer: namespace and name of the interface at the other end; None for a bridge.
        kind: its kind; empty for a veth end or bridge.
    """

    path: str
    segment: str
    namespace: str
    name: str
    addresses: tuple[IPInterface, ...] = ()
    mtu: int | None = None
    bridge: str | None = None
    peer: tuple[str, str] | None = None
    kind: str = ""

    def reaches(self, address: IPAddress) -> bool:
        """Whether the address is on a network of this interface."""
        return any(address in own.network for own in self.addresses)


@dataclass
class Plan:
    """The interfaces of a topology, in the order of its parts, and what could not be decided.

    Attributes:
        interfaces: all of them.
        problems: the mistakes, with their key paths.
    """

    interfaces: list[PlannedInterface] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    _by_namespace: dict[str, list[PlannedInterface]] = field(default_factory=lambda: defaultdict(list))

    def add(self, interface: PlannedInterface) -> None:
        """Add one more."""
        self.interfaces.append(interface)
        self._by_namespace[interface.namespace].append(interface)

    def of(self, namespace: str) -> list[PlannedInterface]:
        """The interfaces of one namespace."""
        return self._by_namespace.get(namespace, [])

    def networks_of(self, namespace: str) -> str:
        """The networks a namespace reaches without a gateway, as a sentence."""
        networks = [f"'{address.network}' ({each.name})" for each in self.of(namespace) for address in each.addresses]
        return f"{namespace!r} is on " + (", ".join(dict.fromkeys(networks)) or "no network")


def make_plan(segments: Sequence[Segment], links: Sequence[tuple[str, LinkSpec]] = ()) -> Plan:
    """Decide all names and addresses."""
    plan = Plan()
    # Automatic names avoid all given ones, wherever these are in the topology.
    taken: dict[str, set[str]] = defaultdict(set)
    for segment in segments:
        if isinstance(segment.spec, BridgeSpec):
            taken[segment.spec.namespace].add(segment.spec.name)
        for _, end in segment.ends:
            taken[end.namespace].update(as_many(end.name))
    for _, link in links:
        taken[link.namespace].add(link.name)
    for segment in segments:
        if isinstance(segment.spec, BridgeSpec):
            _plan_bridge(plan, segment.path, segment.spec, segment.ends, taken)
        else:
            _plan_veth(plan, segment.path, segment.spec, segment.ends, taken)
    for path, link in links:
        # The other end of a tunnel or VLAN is found by its addresses: all of one kind may share a network.
        plan.add(
            PlannedInterface(
                path, f"interfaces of kind {link.kind}", link.namespace, link.name, link.addresses, link.mtu, link.master,
                kind=link.kind,
            )
        )  # fmt: skip
    return plan


def _plan_bridge(
    plan: Plan, path: str, bridge: BridgeSpec, ports: Sequence[tuple[str, InterfaceSpec]], taken: dict[str, set[str]]
) -> None:
    holders = [bridge.addresses, *(port.addresses for _, port in ports)]
    addresses = _fill(plan, path, (bridge.subnet, bridge.subnet6), holders, gateway=True)
    home = bridge.namespace
    plan.add(PlannedInterface(path, path, home, bridge.name, addresses[0], bridge.mtu))
    for (port_path, port), port_addresses in zip(ports, addresses[1:], strict=True):
        mtu = port.mtu or bridge.mtu
        name = _take(port.name or default_interface_name(port.namespace, taken[port.namespace]), taken[port.namespace])
        side = _take(bridge_side_name(port.namespace, taken[home]), taken[home])
        plan.add(PlannedInterface(port_path, path, port.namespace, name, port_addresses, mtu, peer=(home, side)))
        plan.add(
            PlannedInterface(
                f"{port_path} (the bridge's side)", path, home, side, (), mtu, bridge.name, (port.namespace, name)
            )
        )


def _plan_veth(
    plan: Plan, path: str, veth: VethSpec, ends: Sequence[tuple[str, InterfaceSpec]], taken: dict[str, set[str]]
) -> None:
    addresses = _fill(plan, path, (veth.subnet, veth.subnet6), [end.addresses for _, end in ends])
    names = [
        _take(end.name or default_interface_name(end.namespace, taken[end.namespace]), taken[end.namespace])
        for _, end in ends
    ]
    for here, there in ((0, 1), (1, 0)):
        end_path, end = ends[here]
        peer = (ends[there][1].namespace, names[there])
        plan.add(
            PlannedInterface(
                end_path, path, end.namespace, names[here], addresses[here], end.mtu or veth.mtu, peer=peer
            )
        )


def _take(name: str, taken: set[str]) -> str:
    taken.add(name)
    return name


def _fill(
    plan: Plan,
    path: str,
    subnets: Sequence[IPNetwork | None],
    holders: Sequence[tuple[IPInterface, ...]],
    *,
    gateway: bool = False,
) -> list[tuple[IPInterface, ...]]:
    """The holders' addresses, with one from each subnet for holders without an address of that family."""
    filled = list(holders)
    for key, subnet in zip(("subnet", "subnet6"), subnets, strict=True):
        if subnet is not None:
            try:
                filled = _fill_subnet(subnet, filled, gateway=gateway)
            except InvalidTopologyError as error:
                plan.problems.append((f"{path}.{key}", str(error)))
    return filled


def _fill_subnet(
    subnet: IPNetwork, holders: Sequence[tuple[IPInterface, ...]], *, gateway: bool
) -> list[tuple[IPInterface, ...]]:
    # The addresses that parse_interface_address refuses are not assigned: the network's own address, IPv4 broadcast.
    first = 1 if subnet.num_addresses > 2 else 0
    last = subnet.num_addresses - (2 if subnet.num_addresses > 2 and subnet.version == 4 else 1)
    used = {address.ip for held in holders for address in held}
    lacking = [n for n, held in enumerate(holders) if all(address.version != subnet.version for address in held)]
    filled = list(holders)
    upwards = iter(range(first, last + 1))
    for number in lacking:
        downwards = range(min(GATEWAY_NUMBER, last), first - 1, -1)
        candidates = iter(downwards) if gateway and number == 0 else upwards
        free = next((each for each in candidates if subnet[each] not in used), None)
        if free is None:
            room = last - first + 1
            raise InvalidTopologyError(
                f"cannot use '{subnet}' as subnet: it has room for {room} addresses, too few for the {len(holders)} interfaces here"
            )
        used.add(subnet[free])
        filled[number] = (*holders[number], ip_interface(f"{subnet[free]}/{subnet.prefixlen}"))
    return filled


def default_routes(
    segments: Sequence[Segment], plan: Plan, given: Iterable[RouteSpec]
) -> Iterator[tuple[str, RouteSpec]]:
    """The default routes that bridges with ``gateway`` ask for.

    Args:
        segments: the bridges and veth pairs.
        plan: their interfaces.
        given: the topology's routes with gateways as addresses; a namespace keeps its own default route.

    Yields:
        The key path of the bridge, and the route.
    """
    has_own = {(route.namespace, version_of(route)) for route in given if is_default(route) and is_main(route)}
    for segment in segments:
        if not isinstance(segment.spec, BridgeSpec) or not segment.spec.gateway:
            continue
        inside = [each for each in plan.interfaces if each.segment == segment.path]
        gateways = [address.ip for each in inside if each.path == segment.path for address in each.addresses]
        for port in inside:
            for version in (4, 6):
                via = next((each for each in gateways if each.version == version and port.reaches(each)), None)
                outside = port.namespace != segment.spec.namespace
                if via is not None and outside and (port.namespace, version) not in has_own:
                    yield segment.path, RouteSpec(port.namespace, "default", via=via)


def is_default(route: RouteSpec) -> bool:
    """Whether it is a default route."""
    return isinstance(route.destination, str) or route.destination.prefixlen == 0


def is_main(route: RouteSpec) -> bool:
    """Whether the route is in the main table."""
    return route.table in (None, MAIN)


def version_of(route: RouteSpec) -> int | None:
    """The family of a route, 4 or 6; None if neither its destination nor its gateway determines it."""
    for each in (route.destination, *route.gateways):
        if not isinstance(each, str):
            return each.version
    return None


def resolve(route: RouteSpec, plan: Plan) -> list[RouteSpec]:
    """Resolve a route's gateways to addresses; a default route by name becomes one for each family that all have.

    Raises:
        InvalidTopologyError: the namespace named is no neighbour, or has several addresses there; or the gateways have
            no common family.
    """
    if len(route.gateways) < 2 and not isinstance(route.via, str):
        return [route]
    ways = [_ways(route, each, version_of(route), plan) for each in route.gateways]
    combinations: list[tuple[IPAddress, ...]] = []
    if isinstance(route.destination, str):
        versions = [4, 6] if route.source is None else [route.source.version]
        versions = [version for version in versions if all(version in way for way in ways)]
        combinations = [tuple(way[version] for way in ways) for version in versions]
    else:  # an IPv4 route may have an IPv6 gateway, if given as an address
        wanted = route.destination.version
        combinations = [tuple(way[wanted] if wanted in way else next(iter(way.values())) for way in ways)]
    if not combinations:
        listing = ", ".join(repr(str(each)) for each in route.gateways)
        raise InvalidTopologyError(f"cannot use {listing} as gateways of one route: they are of different families")
    return [replace(route, gateways=gateways) for gateways in combinations]


def _ways(route: RouteSpec, gateway: IPAddress | str, wanted: int | None, plan: Plan) -> dict[int, IPAddress]:
    """The addresses of a gateway by family: both, if it is a neighbour in both."""
    if not isinstance(gateway, str):
        return {gateway.version: gateway}
    by_version: dict[int, set[IPAddress]] = defaultdict(set)
    for mine in plan.of(route.namespace):
        for theirs in plan.of(gateway):
            if theirs.segment == mine.segment and route.dev in (None, mine.name) and gateway != route.namespace:
                for address in theirs.addresses:
                    if wanted in (None, address.version) and mine.reaches(address.ip):
                        by_version[address.version].add(address.ip)
    family = f"IPv{wanted} " if wanted else ""
    if not by_version:
        raise InvalidTopologyError(
            f"cannot use {gateway!r} as gateway: it has no {family}address on a network of {route.namespace!r}; {plan.networks_of(route.namespace)}"
        )
    for addresses in by_version.values():
        if len(addresses) > 1:
            listing = ", ".join(f"'{each}'" for each in sorted(addresses, key=int))
            raise InvalidTopologyError(
                f"cannot use {gateway!r} as gateway: it has several addresses there; write the one you mean: {listing}"
            )
    return {version: next(iter(addresses)) for version, addresses in by_version.items()}

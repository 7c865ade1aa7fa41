"""Checks of a topology's gateways, routes, masquerades and port forwards."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.parts.gateway import forward
from pytest_netns.parts.gateway.forward import PortForwardSpec
from pytest_netns.parts.gateway.port_index import PortIndex
from pytest_netns.parts.links.bridge import BridgeSpec
from pytest_netns.parts.routes import MAIN, RouteSpec
from pytest_netns.topology.plan import PlannedInterface, default_routes, is_default, resolve, version_of
from pytest_netns.topology.rules import Checked, Problem
from pytest_netns.values import IPAddress, Target, parse_choice


def check_gateways(checked: Checked) -> Iterator[Problem]:
    """A bridge that is a gateway shares a network with its ports."""
    for segment in checked.segments:
        if isinstance(segment.spec, BridgeSpec) and segment.spec.gateway and checked.certain(segment.spec.namespace):
            bridge = next(each for each in checked.plan.of(segment.spec.namespace) if each.path == segment.path)
            if not bridge.addresses:
                yield (
                    f"{segment.path}.gateway",
                    f"cannot use bridge {bridge.name!r} as gateway: it has no address; give it an address or a subnet",
                )
                continue
            for each in checked.plan.interfaces:
                if (
                    each.segment == segment.path
                    and each.addresses
                    and not any(each.reaches(a.ip) for a in bridge.addresses)
                ):
                    listing = ", ".join(f"'{a.network}'" for a in bridge.addresses)
                    yield (
                        f"{each.path}.address",
                        f"cannot use '{each.addresses[0]}' here: the bridge is this port's gateway, and is on {listing}",
                    )


def check_routes(checked: Checked) -> Iterator[Problem]:
    """Every route has an existing gateway or interface."""
    seen: dict[object, str] = {}
    concrete: list[RouteSpec] = []
    for path, route in checked.sound("routes"):
        problems = list(_route(checked, path, route))
        yield from problems
        if (
            not problems
            and checked.certain(route.namespace)
            and all(checked.certain(each) for each in route.gateways if isinstance(each, str))
        ):
            for each in resolve(route, checked.plan):
                concrete.append(each)
                yield from _twice(seen, path, each)
    for path, each in default_routes(checked.segments, checked.plan, concrete):
        yield from _twice(seen, f"{path}.gateway", each)


def _twice(seen: dict[object, str], path: str, route: RouteSpec) -> Iterator[Problem]:
    destination = "default" if is_default(route) else route.destination
    key = (route.namespace, destination, version_of(route), route.metric, route.table or MAIN)
    if key in seen:
        yield (
            path,
            f"cannot add a route to '{route.destination}' in {route.namespace!r} twice: {seen[key]} has it; give them different metrics",
        )
    seen.setdefault(key, path)


def _route(checked: Checked, path: str, route: RouteSpec) -> Iterator[Problem]:
    interfaces = checked.plan.of(route.namespace)
    if route.leads_nowhere:
        for key, value in (("via", route.via), ("dev", route.dev)):
            if value is not None:
                yield (
                    f"{path}.{key}",
                    f"cannot use '{value}' here: a route of type {route.type!r} has no gateway or interface",
                )
    elif route.via is None and route.dev is None:
        yield f"{path}.via", "is missing; a route needs via (a gateway) or dev (an interface)"
    if version_of(route) is None and not route.gateways and (route.leads_nowhere or route.dev is not None):
        yield f"{path}.destination", "cannot use 'default' without via: write '0.0.0.0/0' or '::/0'"
    if route.onlink and (route.dev is None or not route.gateways):
        yield f"{path}.onlink", "cannot be used without via and dev: it says that the gateway is behind that interface"
    if not checked.certain(route.namespace):
        return
    if route.dev is not None:
        yield from _device(checked, f"{path}.dev", route.namespace, route.dev)
    if route.source is not None:
        yield from ((f"{path}.source", text) for text in _source_mistakes(checked, route, route.source, interfaces))
    if route.leads_nowhere:
        return
    if all(checked.certain(each) for each in route.gateways if isinstance(each, str)):
        try:
            for resolved in resolve(route, checked.plan):
                if (twice := _first_twice(resolved.gateways)) is not None:
                    yield f"{path}.via", f"cannot use '{twice}' twice as gateway of one route: name each gateway once"
        except InvalidTopologyError as error:
            yield f"{path}.via", str(error)
    for each in route.gateways:
        if not isinstance(each, str):
            yield from ((f"{path}.via", text) for text in _gateway_mistakes(checked, route, each, interfaces))


def _first_twice(gateways: tuple[IPAddress | str, ...]) -> IPAddress | str | None:
    """The first gateway that is listed more than once."""
    return next((each for each in gateways if gateways.count(each) > 1), None)


def _source_mistakes(
    checked: Checked, route: RouteSpec, source: IPAddress, interfaces: list[PlannedInterface]
) -> Iterator[str]:
    refused = f"cannot use '{source}' as source of a route: "
    if version_of(route) not in (None, source.version):
        yield f"{refused}it is IPv{source.version}, and the route is IPv{version_of(route)}"
    elif not any(source == address.ip for each in interfaces for address in each.addresses):
        yield f"{refused}it is no address of {route.namespace!r}; {checked.plan.networks_of(route.namespace)}"


def _gateway_mistakes(
    checked: Checked, route: RouteSpec, via: IPAddress, interfaces: list[PlannedInterface]
) -> Iterator[str]:
    refused = f"cannot use '{via}' as gateway: "
    zone = getattr(via, "scope_id", None)  # the interface of a link-local gateway, RFC 4007 section 11
    if version_of(route) != via.version and via.version == 4:
        yield f"{refused}it is IPv{via.version}, and the destination '{route.destination}' is IPv{version_of(route)}"
    elif any(via == address.ip for each in interfaces for address in each.addresses):
        yield f"{refused}it is an address of {route.namespace!r} itself"
    elif via.is_link_local and via.version == 6:
        if route.dev is None and zone is None:
            yield f"{refused}a link-local gateway needs dev, the interface it is behind, or a zone such as '{via}%eth0'"
        elif zone is not None and zone not in {each.name for each in interfaces}:
            yield f"{refused}{route.namespace!r} has no interface {zone!r}"
    elif not route.onlink and not any(each.reaches(via) for each in interfaces if route.dev in (None, each.name)):
        routes = [
            each for _, each in checked.sound("routes") if each.namespace == route.namespace and not each.gateways
        ]
        if not any(each.dev and not isinstance(each.destination, str) and via in each.destination for each in routes):
            behind = f" behind {route.dev!r}" if route.dev else ""
            yield f"{refused}it is on no network of {route.namespace!r}{behind}; {checked.plan.networks_of(route.namespace)}"


def _device(checked: Checked, path: str, namespace: str, name: str) -> Iterator[Problem]:
    try:
        parse_choice(name, [*(each.name for each in checked.plan.of(namespace)), "lo"], f"interface of {namespace!r}")
    except InvalidTopologyError as error:
        yield path, str(error)


def check_masquerades(checked: Checked) -> Iterator[Problem]:
    """The masquerading namespace has the interface and an address of the family."""
    for path, each in checked.sound("masquerades"):
        if not checked.certain(each.namespace):
            continue
        if each.out is not None:
            yield from _device(checked, f"{path}.out", each.namespace, each.out)
        if each.source.version not in _families(checked, each.namespace):
            yield (
                f"{path}.source",
                f"cannot use '{each.source}' as source: {each.namespace!r} has no IPv{each.source.version} address to hide it behind",
            )


def check_port_forwards(checked: Checked) -> Iterator[Problem]:
    """No port is forwarded twice, and its targets have an address of a common family."""
    seen: dict[str, PortIndex[str]] = {}
    families = functools.cache(functools.partial(_families, checked))  # a thousand forwards lead to a few hosts
    for path, each in checked.sound("port_forwards"):
        index = seen.setdefault(each.namespace, PortIndex())
        for _, other in index.conflicting(each):
            yield (
                f"{path}.port",
                f"cannot forward {'+'.join(each.protocol)} port {each.port} of {each.namespace!r} twice: {other} does",
            )
            break
        index.add(each, path)
        yield from ((f"{path}.{key}", mistake) for key, mistake in forward.mistakes(each))
        for target in each.to:
            yield from _target(checked, path, each, target, families)
        if each.address is not None and checked.certain(each.namespace):
            networks = checked.plan.networks_of(each.namespace)
            if not any(held.reaches(each.address) for held in checked.plan.of(each.namespace)):
                yield (
                    f"{path}.address",
                    f"cannot use '{each.address}' here: {each.namespace!r} is not on its network; {networks}",
                )


def _target(
    checked: Checked, path: str, each: PortForwardSpec, target: Target, families_of: Callable[[str], set[int]]
) -> Iterator[Problem]:
    host = target.host
    if not checked.certain(each.namespace) or (isinstance(host, str) and not checked.certain(host)):
        return
    families = families_of(host) if isinstance(host, str) else {host.version}
    if families.isdisjoint(families_of(each.namespace)):
        here = " or ".join(f"IPv{version}" for version in sorted(families)) or "any"
        yield (
            f"{path}.to",
            (
                f"cannot use {str(target)!r} as target: {host!r} has no address"
                if not families
                else f"cannot use {str(target)!r} as target: {each.namespace!r} has no {here} address to forward it from"
            ),
        )


def _families(checked: Checked, namespace: str) -> set[int]:
    return {address.version for each in checked.plan.of(namespace) for address in each.addresses}

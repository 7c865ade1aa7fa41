"""Fill in all defaults of a topology: names, addresses, MTUs and default routes; pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pytest_netns.parts.links.veth import VethSpec
from pytest_netns.topology.plan import Plan, PlannedInterface, default_routes, resolve
from pytest_netns.topology.segments import segments_of
from pytest_netns.topology.tables import Tables


def assigned_parts(network: Tables, plan: Plan) -> dict[str, tuple[object, ...]]:
    """The parts of a network that change when the defaults are filled in, by field."""
    at = {each.path: each for each in plan.interfaces}
    routes = [each for route in network.routes for each in resolve(route, plan)]
    routes += [route for _, route in default_routes(segments_of(network), plan, routes)]
    bridges = tuple(
        replace(
            bridge,
            addresses=at[f"bridges[{n}]"].addresses,
            subnet=None,
            subnet6=None,
            gateway=False,
            ports=tuple(_written_out(port, at[f"bridges[{n}].ports[{m}]"]) for m, port in enumerate(bridge.ports)),
        )
        for n, bridge in enumerate(network.bridges)
    )
    veths = tuple(
        replace(
            veth,
            subnet=None,
            subnet6=None,
            impairment=None,
            ends=(
                _impaired(_written_out(veth.ends[0], at[f"veths[{n}].ends[0]"]), veth),
                _impaired(_written_out(veth.ends[1], at[f"veths[{n}].ends[1]"]), veth),
            ),
        )
        for n, veth in enumerate(network.veths)
    )
    return {"bridges": bridges, "veths": veths, "routes": tuple(routes)}


def _written_out(end: Any, planned: PlannedInterface) -> Any:
    return replace(end, name=planned.name, addresses=planned.addresses, mtu=planned.mtu)


def _impaired(end: Any, veth: VethSpec) -> Any:
    return replace(end, impairment=end.impairment or veth.impairment)

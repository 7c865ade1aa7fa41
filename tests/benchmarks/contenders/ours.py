"""The plugin's own labs; usage and protocol as in kernel.c."""

from __future__ import annotations

from functools import partial

from pytest_netns import Lab, Namespace
from pytest_netns.topology import PICTURES, BridgeSpec, NamespaceSpec, PortSpec, RouteSpec, Topology, VethEnd, VethSpec
from tests.benchmarks.contenders.protocol import arguments, serve


def enter(namespace: Namespace) -> None:
    """Enter and leave."""
    for _ in range(100):
        with namespace:
            pass


def call(namespace: Namespace) -> None:
    """Call a function."""
    for _ in range(10):
        namespace.call(int)


def run(namespace: Namespace) -> None:
    """Run a program."""
    namespace.run(["/bin/true"])


WAYS = {"run": run, "call": call, "with": enter}


def star(count: int) -> Topology:
    """N namespaces on one bridge."""
    ports = [PortSpec(f"n{n}", address=f"10.0.{n // 250}.{n % 250 + 1}/16") for n in range(count)]
    return Topology(bridges=[BridgeSpec("v-net-0", address="10.0.255.254/16", ports=ports)])


def chain(routers: int) -> Topology:
    """N routers in a row between two ends, with routes to all networks on every one."""
    names = [f"n{n}" for n in range(routers + 2)]
    networks = range(routers + 1)
    return Topology(
        [NamespaceSpec(name, forwarding=True) for name in names[1:-1]],
        veths=[
            VethSpec(
                [
                    VethEnd(names[n], name="right", address=f"10.1.{n}.1/24"),
                    VethEnd(names[n + 1], name="left", address=f"10.1.{n}.2/24"),
                ]
            )
            for n in networks
        ],
        routes=[
            RouteSpec(name, f"10.1.{other}.0/24", via=f"10.1.{n}.2" if other > n else f"10.1.{n - 1}.1")
            for n, name in enumerate(names)
            for other in networks
            if other not in (n, n - 1)
        ],
    )


def main() -> None:
    """A program, a function or nothing in a namespace; or the set-up and teardown of a lab."""
    picture, count = arguments()
    if picture in WAYS:
        with Lab("benchmark") as lab:
            host = lab.add_namespace("host")
            host.run(["/bin/true"])  # starts what only the first program needs
            serve(partial(WAYS[picture], host), lambda: None)
    else:
        serve_labs(picture, count)


def serve_labs(picture: str, count: int) -> None:
    """Set-up and teardown."""
    make = {"bridge": star, "chain": chain}.get(picture)
    topology = make(count) if make else PICTURES.get(picture)
    lab: Lab

    def up() -> None:
        nonlocal lab
        lab = Lab("benchmark")
        if topology is None:
            lab.add_namespace("host")
        else:
            lab.build(topology)

    serve(up, lambda: lab.close())  # noqa: PLW0108 - another lab each time


main()

"""Four BIRD routers in a ring run OSPF: a link is unplugged, and traffic takes the other way round."""

from collections.abc import Iterator
from subprocess import CompletedProcess

import pytest

from pytest_netns import Lab, LabFactory, Namespace, VethPair

CONFIG = """
router id 10.255.0.{number};
protocol device {{ scan time 1; }}
protocol kernel {{ ipv4 {{ export all; }}; }}
protocol ospf {{
  ipv4 {{ import all; export none; }};
  area 0 {{
    interface "lo" {{ stub; }};
    interface "to-*" {{ type ptp; hello 1; dead 4; check link yes; }};
  }};
}}
"""
COUNT = 4
Ring = dict[tuple[int, int], VethPair]  # the links by the numbers of the routers they join


def address(number: int) -> str:
    """A router's own address, independent of interfaces."""
    return f"10.255.0.{number}"


@pytest.fixture(scope="module")
def lab(netns_factory: LabFactory) -> Iterator[Lab]:
    with netns_factory.lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def ring(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ring:
    """r1 - r2 - r3 - r4 - r1, once all routers have routes to all others; returns the links by their two ends."""
    routers = [lab.add_namespace(f"r{number}") for number in range(1, COUNT + 1)]
    links = {}
    for number, router in enumerate(routers, 1):
        router.enable_forwarding()
        router.interfaces["lo"].add_address(f"{address(number)}/32")
        other = number % COUNT + 1
        links[number, other] = lab.add_veth(
            router,
            routers[other - 1],
            addresses=(f"10.0.{number}.1/30", f"10.0.{number}.2/30"),
            names=(f"to-r{other}", f"to-r{number}"),
        )
    for number, router in enumerate(routers, 1):
        home = tmp_path_factory.mktemp(router.name)
        (home / "bird.conf").write_text(CONFIG.format(number=number))
        router.start(["bird", "-f", "-c", home / "bird.conf", "-s", home / "control", "-P", home / "pid"])
    lab.wait_until(lambda: all(knows_all(router) for router in routers), timeout=60)
    return links


def knows_all(router: Namespace) -> bool:
    known = {str(route.destination) for route in router.routes()}
    return all(f"{address(number)}/32" in known for number in range(1, COUNT + 1) if router.name != f"r{number}")


def way(router: Namespace, number: int) -> str:
    """The interface by which a router sends to another one."""
    return router.route_to(address(number)).interface


def ping(router: Namespace, source: int, target: int) -> CompletedProcess[str]:
    """Whether a packet is answered, both ways by routes that OSPF has found."""
    return router.run(["ping", "-c1", "-W1", "-I", address(source), address(target)])


def test_the_short_way(lab: Lab, ring: Ring) -> None:
    assert way(lab["r1"], 2) == "to-r2"
    assert way(lab["r1"], 4) == "to-r4"
    lab.wait_until(lambda: ping(lab["r1"], 1, 3), timeout=30)


def test_a_link_is_pulled_and_plugged_in_again(lab: Lab, ring: Ring) -> None:
    r1 = lab["r1"]
    with lab.capture() as packets:
        ring[1, 2].unplug()
        lab.wait_until(lambda: way(r1, 2) == "to-r4", timeout=30)
        lab.wait_until(lambda: ping(r1, 1, 2), timeout=30)
        assert any(packet.namespace == "r3" and packet.destination == address(2) for packet in packets)
    ring[1, 2].plug()
    lab.wait_until(lambda: way(r1, 2) == "to-r2", timeout=30)


def test_a_router_is_cut_off_although_its_links_are_fine(lab: Lab, ring: Ring) -> None:
    """Without a lost carrier the neighbours only notice missing hellos."""
    with lab["r2"].isolate():
        lab.wait_until(lambda: way(lab["r1"], 3) == "to-r4", timeout=30)
        lab.wait_until(lambda: ping(lab["r1"], 1, 3), timeout=30)

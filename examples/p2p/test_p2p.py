"""Two peers behind their own routers: ICE agents (aioice) punch holes, with a TURN server (coturn) where that cannot work."""

from __future__ import annotations

import asyncio
import queue
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_netns import Lab, Topology

aioice = pytest.importorskip("aioice")
STUN = "203.0.113.10"
USER, PASSWORD = "peer", "secret"
Description = tuple[list[str], str, str]  # of an agent: its candidates, user name and password


@pytest.fixture
def internet(netns: Lab) -> Lab:
    """alice behind gw1, bob behind gw2, and a STUN and TURN server between them; the tests configure the gateways."""
    aioice.stun.RETRY_RTO, aioice.stun.RETRY_MAX = (
        0.1,
        4,
    )  # an agent gives up after 31 s by itself; here packets arrive at once
    netns.build(Topology.from_toml(Path(__file__).parent / "internet.toml"))
    server = ["turnserver", "-n", "-L", STUN, "--lt-cred-mech", "--realm=example", f"--user={USER}:{PASSWORD}"]
    netns["stun"].start(
        [
            *server,
            "--no-cli",
            "--log-file=stdout",
            "--pidfile=",
            "--min-port=50000",
            "--max-port=50100",
        ],
        ready="udp/3478",
        timeout=20,
    )
    return netns


@pytest.mark.parametrize(
    ("first", "second", "direct"),
    [
        ("home", "home", True),
        ("full-cone", "symmetric", True),
        ("home", "symmetric", False),
        ("symmetric", "symmetric", False),
    ],
)
def test_hole_punching(internet: Lab, first: str, second: str, direct: bool) -> None:
    """Hole punching works through two home routers; through a symmetric NAT only with an open one on the other side."""
    internet["gw1"].nat("10.1.0.0/24", out="wan", like=first)
    internet["gw2"].nat("10.2.0.0/24", out="wan", like=second)
    assert connect(internet) is direct


def test_turn_works_where_nothing_else_does(internet: Lab) -> None:
    """Between two symmetric NATs only the relay works."""
    for gateway, network in (("gw1", "10.1.0.0/24"), ("gw2", "10.2.0.0/24")):
        internet[gateway].nat(network, out="wan", like="symmetric")
    assert connect(internet, relay=True)


def test_behind_a_carrier(internet: Lab) -> None:
    """A home router is no obstacle, nor is one that has been restarted meanwhile."""
    internet["gw1"].nat("10.1.0.0/24", out="wan", like="home")
    internet["gw2"].nat("10.2.0.0/24", out="wan", like="carrier")
    assert connect(internet)
    internet["gw1"].forget_connections()
    assert connect(internet)


def connect(lab: Lab, *, relay: bool = False) -> bool:
    """Whether both agents connect; queues take the place of a signalling server."""
    to_bob: queue.SimpleQueue[Description] = queue.SimpleQueue()
    to_alice: queue.SimpleQueue[Description] = queue.SimpleQueue()
    with ThreadPoolExecutor(2) as pool:
        alice = pool.submit(lab["alice"].call, agent, True, to_bob, to_alice, relay)
        bob = pool.submit(lab["bob"].call, agent, False, to_alice, to_bob, relay)
        return alice.result(60) and bob.result(60)


async def agent(
    controlling: bool, outgoing: queue.SimpleQueue[Description], incoming: queue.SimpleQueue[Description], relay: bool
) -> bool:
    """One peer: runs in its namespace, on its own event loop."""
    turn = {"turn_server": (STUN, 3478), "turn_username": USER, "turn_password": PASSWORD} if relay else {}
    connection = aioice.Connection(ice_controlling=controlling, stun_server=(STUN, 3478), use_ipv6=False, **turn)
    try:
        await connection.gather_candidates()
        candidates = [each.to_sdp() for each in connection.local_candidates]
        outgoing.put((candidates, connection.local_username, connection.local_password))
        candidates, connection.remote_username, connection.remote_password = await asyncio.to_thread(incoming.get)
        for each in candidates:
            await connection.add_remote_candidate(aioice.Candidate.from_sdp(each))
        await connection.add_remote_candidate(None)
        try:
            await connection.connect()
        except ConnectionError:
            return False
        await connection.send(b"hello")
        heard: bytes = await asyncio.wait_for(connection.recv(), 5)
        return heard == b"hello"
    finally:
        await connection.close()

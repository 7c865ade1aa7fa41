"""Two ICE agents (aioice), each behind its own gateway, that try to connect; and RFC 5780's tests with a STUN server."""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import aioice.stun
from aioice import Candidate, Connection

from pytest_netns import Lab, Namespace, Packet, Service, Topology
from pytest_netns.parts.gateway.nat import BEHAVIOURS

STUN_PORT, OTHER_PORT = 3478, 3479
SERVERS = {4: ("203.0.113.10", "203.0.113.11"), 6: ("2001:db8::10", "2001:db8::11")}
_GATEWAYS = socket.inet_aton("203.0.113.101") + socket.inet_aton("203.0.113.102")  # from alice's to bob's
SILENCE = 0.3  # seconds after which a STUN server counts as silent
TOPOLOGY = Topology.loads("""
[[bridges]]
name = "internet"
namespace = "isp"
address = ["203.0.113.1/24", "2001:db8::1/64"]
ports = [
  { namespace = "stun", address = ["203.0.113.10/24", "203.0.113.11/24", "2001:db8::10/64", "2001:db8::11/64"] },
  { namespace = "gw1", name = "wan", address = ["203.0.113.101/24", "2001:db8::101/64"] },
  { namespace = "gw2", name = "wan", address = ["203.0.113.102/24", "2001:db8::102/64"] },
]

[[veths]]
ends = [
  { namespace = "alice", name = "eth0", address = ["10.1.0.2/24", "fd01::2/64"] },
  { namespace = "gw1", name = "lan", address = ["10.1.0.1/24", "fd01::1/64"] },
]
[[veths]]
ends = [
  { namespace = "bob", name = "eth0", address = ["10.2.0.2/24", "fd02::2/64"] },
  { namespace = "gw2", name = "lan", address = ["10.2.0.1/24", "fd02::1/64"] },
]

[[routes]]
namespace = "alice"
destination = "default"
via = "gw1"
[[routes]]
namespace = "bob"
destination = "default"
via = "gw2"
""")


def build(lab: Lab, first: str, second: str, version: int = 4) -> None:
    """alice behind gw1 and bob behind gw2, each with a kind of NAT; ``"masquerade"`` is plain masquerade."""
    lab.build(TOPOLOGY)
    for name, like, network in (("gw1", first, 1), ("gw2", second, 2)):
        source = f"10.{network}.0.0/24" if version == 4 else f"fd0{network}::/64"
        if like == "masquerade":
            lab[name].masquerade(source, out="wan")
        else:
            lab[name].nat(source, out="wan", like=like)


def start_stun(lab: Lab) -> Service:
    """coturn as a STUN server of RFC 5780: two addresses with two ports each."""
    listening = [option for each in (*SERVERS[4], *SERVERS[6]) for option in ("-L", each)]
    options = ["--no-cli", "--log-file=stdout", "--pidfile="]
    if " --rfc5780" in lab["stun"].run("turnserver -h", check=False).stdout:  # since coturn 4.7 it has to be asked for
        options.append("--rfc5780")
    return lab["stun"].start(["turnserver", "-n", "--stun-only", *listening, *options], ready="udp/3478", timeout=20)


# -- RFC 5780 ----------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """A STUN server's answer: the client's address as seen by it, and its own other address."""

    mapped: tuple[str, int]
    other: tuple[str, int]


def classify(namespace: Namespace, version: int = 4) -> tuple[str, str]:
    """Mapping and filtering according to a STUN server, by RFC 5780 sections 4.3 and 4.4."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    first, second = SERVERS[version]
    with namespace.socket(family, socket.SOCK_DGRAM) as asking, namespace.socket(family, socket.SOCK_DGRAM) as filtered:
        one = _ask(asking, (first, STUN_PORT))
        assert one is not None
        assert one.other == (second, OTHER_PORT)
        two = _ask(asking, (second, STUN_PORT))
        three = _ask(asking, (second, OTHER_PORT))
        assert two is not None
        assert three is not None
        mapping = (
            BEHAVIOURS[0]
            if one.mapped == two.mapped
            else BEHAVIOURS[1]
            if two.mapped == three.mapped
            else BEHAVIOURS[2]
        )
        assert _ask(filtered, (first, STUN_PORT)) is not None
        if _ask(filtered, (first, STUN_PORT), change_address=True, change_port=True) is not None:
            return mapping, BEHAVIOURS[0]
        open_to_port = _ask(filtered, (first, STUN_PORT), change_port=True) is not None
        return mapping, BEHAVIOURS[1] if open_to_port else BEHAVIOURS[2]


def _ask(
    client: socket.socket, server: tuple[str, int], *, change_address: bool = False, change_port: bool = False
) -> Answer | None:
    """A binding request (RFC 8489), with CHANGE-REQUEST; None without an answer."""
    changed = change_address or change_port
    attribute = struct.pack(">HHI", 0x0003, 4, change_address << 2 | change_port << 1) if changed else b""
    transaction = os.urandom(12)
    request = struct.pack(">HHI", 0x0001, len(attribute), 0x2112A442) + transaction + attribute
    client.settimeout(SILENCE if changed else 5)
    client.sendto(request, server)
    try:
        while True:
            data = client.recv(2048)
            if data[8:20] == transaction:
                return Answer(_address(data, 0x0020), _address(data, 0x802C))
    except TimeoutError:
        return None


def _address(data: bytes, wanted: int) -> tuple[str, int]:
    """An address attribute; XOR-MAPPED-ADDRESS (0x0020) is XORed with the cookie and the transaction."""
    offset = 20
    while offset < len(data):
        kind, length = struct.unpack_from(">HH", data, offset)
        value = data[offset + 4 : offset + 4 + length]
        if kind == wanted:
            mask = data[4:20] if kind == 0x0020 else bytes(16)
            port = struct.unpack_from(">H", value, 2)[0] ^ int.from_bytes(mask[:2], "big")
            packed = bytes(a ^ b for a, b in zip(value[4:], mask, strict=False))
            return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed), port
        offset += 4 + length + 3 & ~3
    raise AssertionError(f"no attribute {wanted:#x}")


# -- ICE ---------------------------------------------------------------------------------------------


Description = tuple[list[str], str, str]  # of an agent: its candidates, user name and password


def hole_punching(lab: Lab) -> bool:
    """Whether ICE connects alice and bob, and data passes both ways; bob sends once a packet from alice has reached his gateway."""
    # An agent gives up after 31 s by itself; here packets arrive at once.
    aioice.stun.RETRY_RTO, aioice.stun.RETRY_MAX = 0.1, 4
    to_bob: queue.SimpleQueue[Description] = queue.SimpleQueue()
    to_alice: queue.SimpleQueue[Description] = queue.SimpleQueue()
    with lab.capture() as packets, ThreadPoolExecutor(2) as pool:

        def sent_by_alice() -> object:
            return packets.wait(lambda packet: packet.namespace == "gw2" and _is_between_gateways(packet), timeout=30)

        alice = pool.submit(lab["alice"].call, _agent, True, to_bob, to_alice)
        bob = pool.submit(lab["bob"].call, _agent, False, to_alice, to_bob, sent_by_alice)
        results: set[bool] = {alice.result(60), bob.result(60)}
    assert len(results) == 1, "one agent is connected and the other is not"
    return results.pop()


def _is_between_gateways(packet: Packet) -> bool:
    return packet.data[12:14] == b"\x08\x00" and packet.data[26:34] == _GATEWAYS


async def _agent(
    controlling: bool,
    outgoing: queue.SimpleQueue[Description],
    incoming: queue.SimpleQueue[Description],
    wait: Callable[[], object] | None = None,
) -> bool:
    connection = Connection(ice_controlling=controlling, stun_server=(SERVERS[4][0], STUN_PORT), use_ipv6=False)
    try:
        await connection.gather_candidates()
        described = [each.to_sdp() for each in connection.local_candidates]
        outgoing.put((described, connection.local_username, connection.local_password))
        candidates, user, password = await asyncio.to_thread(incoming.get, timeout=30)
        for text in candidates:
            await connection.add_remote_candidate(Candidate.from_sdp(text))
        await connection.add_remote_candidate(None)
        connection.remote_username, connection.remote_password = user, password
        if wait is not None:
            await asyncio.to_thread(wait)
        try:
            await connection.connect()
        except ConnectionError:
            return False
        await connection.send(b"hello")
        return await asyncio.wait_for(connection.recv(), 5) == b"hello"
    finally:
        await connection.close()

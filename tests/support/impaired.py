"""The packets that arrive over an impaired link between red and blue, with their times."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Iterator

from pytest_netns import Namespace, VethPair
from tests.support.traffic import PATIENCE, listen

A, B = "192.168.15.1", "192.168.15.2"
PORT = 5000


def round_trip(namespace: Namespace, address: str) -> float:
    """The milliseconds of the second of two echo requests: the first may wait for ARP."""
    output = namespace.run(["ping", "-c2", "-i0.2", address]).stdout
    return float(re.findall(r"time=([\d.]+) ms", output)[-1])


def numbers(link: VethPair, count: int, *, size: int = 100, expected: int = -1) -> list[int]:
    """Send a number of numbered datagrams from a to b; returns the numbers that arrive, in order.

    Args:
        expected: the number that must arrive; default: until nothing arrives for half a second.
    """
    sender, receiver = link.a.namespace, link.b.namespace
    with (
        listen(receiver, PORT, socket.SOCK_DGRAM) as server,
        sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        for number in range(count):
            client.sendto(struct.pack("!I", number).ljust(size, b"."), (B, PORT))
        return list(arrived(server, expected))


def arrived(server: socket.socket, expected: int = -1) -> Iterator[int]:
    """The numbers that arrive."""
    server.settimeout(0.5 if expected < 0 else PATIENCE)
    with contextlib.suppress(TimeoutError):
        while expected:
            yield struct.unpack_from("!I", server.recv(1 << 16))[0]
            expected -= 1

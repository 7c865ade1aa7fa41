"""Real connections between namespaces, each in a few lines: no servers to wait for, since the kernel queues connections."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import NamedTuple

from pytest_netns import Namespace

PATIENCE = 5.0  # seconds; only a failing test waits that long


class Connection(NamedTuple):
    """Both ends of an established connection, and the client's address as seen by the server."""

    client: socket.socket
    server: socket.socket
    peer: str


def family_of(address: str) -> int:
    """AF_INET or AF_INET6."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def reaches(namespace: Namespace, address: str) -> bool:
    """Whether one echo request is answered within a second."""
    return namespace.run(["ping", "-c1", "-W1", address], check=False).returncode == 0


def listen(
    namespace: Namespace, port: int, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET6
) -> socket.socket:
    """A socket that accepts connections (or datagrams) on every address, of both families by default."""
    server = namespace.socket(family, kind)
    server.settimeout(PATIENCE)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was in use a moment ago
    server.bind(("", port))
    if kind == socket.SOCK_STREAM:
        server.listen()
    return server


@contextlib.contextmanager
def connection(client: Namespace, address: str, port: int, server: socket.socket) -> Iterator[Connection]:
    """A TCP connection from a namespace to an address, which must reach the server."""
    with client.socket(family_of(address), socket.SOCK_STREAM) as near:
        near.settimeout(PATIENCE)
        near.connect((address, port))
        far, peer = server.accept()
        with far:
            far.settimeout(PATIENCE)
            yield Connection(near, far, plain(peer[0]))


def peer_of_connection(client: Namespace, address: str, port: int, server: socket.socket) -> str:
    """Connect, send a line each way; returns the client's address as seen by the server."""
    with connection(client, address, port, server) as (near, far, peer):
        near.sendall(b"there")
        assert far.recv(10) == b"there"
        far.sendall(b"back")
        assert near.recv(10) == b"back"
    return peer


def peer_of_datagram(client: Namespace, address: str, port: int, server: socket.socket) -> str:
    """Send a datagram each way; returns the client's address as seen by the server."""
    with client.socket(family_of(address), socket.SOCK_DGRAM) as near:
        near.settimeout(PATIENCE)
        near.connect((address, port))
        near.send(b"there")
        data, peer = server.recvfrom(10)
        assert data == b"there"
        server.sendto(b"back", peer)
        assert near.recv(10) == b"back"
    return plain(peer[0])


def plain(address: str) -> str:
    """An IPv4 address without the prefix that an IPv6 socket adds."""
    return address.removeprefix("::ffff:")

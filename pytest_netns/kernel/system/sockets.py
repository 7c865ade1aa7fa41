"""Python's own sockets, whatever a test has put in the place of `socket.socket`: pytest-socket has it refuse to be made."""

from __future__ import annotations

import _socket
import socket

# What replaces it may be derived from it, and this module be imported only then.
Socket: type[socket.socket] = next(
    (each for each in socket.socket.__mro__ if (each.__module__, each.__name__) == ("socket", "socket")), socket.socket
)


def pair(family: int, kind: int) -> tuple[socket.socket, socket.socket]:
    """Two sockets that are connected, `socket.socketpair`."""
    first, second = _socket.socketpair(family, kind, 0)
    return Socket(family, kind, 0, first.detach()), Socket(family, kind, 0, second.detach())

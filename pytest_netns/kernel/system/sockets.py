"""Python's original socket class, even if a test has replaced `socket.socket`: pytest-socket makes its constructor raise."""

from __future__ import annotations

import _socket
import socket

# The replacement may be a subclass, and this module may be imported only after that.
Socket: type[socket.socket] = next(
    (base for base in socket.socket.__mro__ if (base.__module__, base.__name__) == ("socket", "socket")), socket.socket
)


def pair(family: int, kind: int) -> tuple[socket.socket, socket.socket]:
    """Create a pair of connected sockets, as `socket.socketpair`."""
    first, second = _socket.socketpair(family, kind, 0)
    return Socket(family, kind, 0, first.detach()), Socket(family, kind, 0, second.detach())

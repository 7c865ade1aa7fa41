"""Part of a victim (a pytest plugin, or imported): passes each new namespace to the trial, and reports when set-up is done."""

from __future__ import annotations

import contextlib
import os
import socket

from pytest_netns.kernel.spaces.netns import NetworkNamespace

_create = NetworkNamespace.create.__func__  # type: ignore[attr-defined]


def tell(word: str, descriptors: tuple[int, ...] = ()) -> socket.socket:
    """Send a word to the trial."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(os.environ["FAULTS_SOCKET"])
    socket.send_fds(connection, [word.encode()], descriptors)
    return connection


def create(cls: type[NetworkNamespace], *arguments: object) -> NetworkNamespace:
    namespace: NetworkNamespace = _create(cls, *arguments)
    with contextlib.suppress(OSError):  # refused on purpose, but not the subject of this trial
        tell("namespace", (namespace.fd,)).close()
    return namespace


NetworkNamespace.create = classmethod(create)  # type: ignore[method-assign, assignment]

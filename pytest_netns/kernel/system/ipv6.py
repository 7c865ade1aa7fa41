"""Whether this kernel has IPv6: one that was started with ipv6.disable=1, or is built without it, has not."""

from __future__ import annotations

import errno
import socket

from pytest_netns.errors import UnavailableError
from pytest_netns.kernel.system import diagnosis, sockets


def lack() -> UnavailableError | None:
    """What is missing and what fixes it; None where there is IPv6."""
    try:
        sockets.Socket(
            socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        ).close()  # loads the module, if it is one
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return UnavailableError("IPv6", *diagnosis.explain("IPv6", errno.EAFNOSUPPORT))
    return None

"""Whether this kernel has IPv6: not if it was booted with ipv6.disable=1 or built without it."""

from __future__ import annotations

import errno
import socket

from pytest_netns.errors import UnavailableError
from pytest_netns.kernel.system import diagnosis, sockets


def missing() -> UnavailableError | None:
    """Return an error with the cause and its remedy; None if IPv6 is available."""
    try:
        sockets.Socket(
            socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        ).close()  # loads the module if IPv6 is one
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return UnavailableError("IPv6", *diagnosis.explain("IPv6", errno.EAFNOSUPPORT))
    return None

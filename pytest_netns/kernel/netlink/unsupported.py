"""Recognize requests that the kernel refused because a feature is missing: IPv6, or a kind of interface."""

from __future__ import annotations

import errno
import socket

from pytest_netns.errors import UnavailableError
from pytest_netns.kernel.netlink import rtlinks
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.system import diagnosis, ipv6

_REFUSALS = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT)
_IPV6 = bytes([socket.AF_INET6])  # the first byte of requests about addresses, routes and neighbours, rtnetlink(7)
_UNKNOWN_KIND = "Unknown device type"  # rtnl_newlink() of Linux


def find(request: Request, code: int, message: str) -> UnavailableError | None:
    """Return an error that names the missing feature; None if the refusal has another cause.

    Args:
        request: the request that was refused.
        code: the error number.
        message: the kernel's message.
    """
    if code not in _REFUSALS:
        return None
    if request.type == rtlinks.RTM_NEWLINK and message == _UNKNOWN_KIND:
        kind = rtlinks.kind_of(request.body)
        return UnavailableError(f"interfaces of kind {kind}", *diagnosis.explain(f"interface {kind}", code, message))
    return ipv6.missing() if request.body[:1] == _IPV6 else None

"""Whether the kernel has refused a request because it lacks what that needs: IPv6, or a kind of interface; pure but for one look."""

from __future__ import annotations

import errno
import socket

from pytest_netns.errors import UnavailableError
from pytest_netns.kernel.netlink import rtlinks
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.system import diagnosis, ipv6

_REFUSALS = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT)
_IPV6 = bytes([socket.AF_INET6])  # how requests about addresses, routes and neighbours begin, rtnetlink(7)
_UNKNOWN_KIND = "Unknown device type"  # rtnl_newlink() of Linux


def find(request: Request, code: int, words: str) -> UnavailableError | None:
    """What the kernel lacks; None where something else is wrong.

    Args:
        request: what was refused.
        code: the error number.
        words: the kernel's own.
    """
    if code not in _REFUSALS:
        return None
    if request.type == rtlinks.RTM_NEWLINK and words == _UNKNOWN_KIND:
        kind = rtlinks.kind_of(request.body)
        return UnavailableError(f"interfaces of kind {kind}", *diagnosis.explain(f"interface {kind}", code, words))
    return ipv6.lack() if request.body[:1] == _IPV6 else None

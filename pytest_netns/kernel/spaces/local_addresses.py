"""Wait until packets to new IPv6 addresses are accepted.

The kernel adds their local routes from a work queue, shortly after its answer; packets that arrive earlier are lost.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from ipaddress import IPv6Address

from pytest_netns.errors import KernelError, UnavailableError
from pytest_netns.kernel.netlink import rtaddresses, rtroutes
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.system.waiting import Deadline
from pytest_netns.values import IPInterface, naming

_DEADLINE = 1.0  # seconds; the kernel needs well under a millisecond unless the machine is overloaded


def wait_usable(netlink: NetlinkSocket, index: int, addresses: Iterable[IPInterface]) -> None:
    """Wait for new IPv6 addresses of an interface, which must be up; IPv4 addresses are usable at once.

    Args:
        netlink: a socket of its namespace.
        index: the interface's index.
        addresses: the addresses.
    """
    for address in addresses:
        _wait(netlink, rtroutes.find_route(address.ip, index if address.is_link_local else 0))


def wait_link_local(netlink: NetlinkSocket, index: int, mac: str) -> None:
    """Wait for the link-local address that the kernel adds to an interface with a new carrier, if it adds one."""
    route = _link_local_route(mac, index)
    if not _is_local(netlink, route) and has_address(netlink, index, naming.link_local_address(mac)):
        _wait(netlink, route)


def _wait(netlink: NetlinkSocket, route: Request) -> None:
    deadline = Deadline(_DEADLINE, first=0.00001, last=0.0005)
    while not _is_local(netlink, route) and not deadline.is_over():
        deadline.pause()  # a sleep, since after sched_yield(2) other programs may keep the CPU for milliseconds


def _is_local(netlink: NetlinkSocket, route: Request) -> bool:
    try:
        return netlink.get(route, rtroutes.parse_is_local)
    except (KernelError, UnavailableError):  # no route at all yet, or no IPv6
        return False


def has_address(netlink: NetlinkSocket, index: int, address: IPv6Address) -> bool:
    """Whether an address exists, usable or not; there is none if IPv6 is disabled, or the MTU is below 1280."""
    try:
        netlink.get(rtaddresses.find_address(index, address), bytes)
    except (KernelError, UnavailableError):
        return False
    return True


@functools.lru_cache(maxsize=4096)  # indexes and MAC addresses are the same in every test
def _link_local_route(mac: str, index: int) -> Request:
    """The request for the route to an interface's own link-local address."""
    return rtroutes.find_route(naming.link_local_address(mac), index)

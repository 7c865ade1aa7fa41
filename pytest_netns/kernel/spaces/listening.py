"""The listening sockets of a namespace, from the kernel's socket tables: sock_diag(7)."""

from __future__ import annotations

import errno
import functools
import ipaddress
import itertools
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pytest_netns.errors import KernelError, fails_as
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NETLINK_SOCK_DIAG, NetlinkSocket
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import procfs
from pytest_netns.values.addresses import IPAddress

_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = struct.Struct("=BBBxI48s")  # family, protocol, extensions, states, socket id
_TCP_LISTEN, _TCP_CLOSE = 10, 7
# ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, CLOSE_WAIT, LAST_ACK, CLOSING; tcp_states.h
_TCP_OPEN = sum(1 << state for state in (1, 2, 3, 4, 8, 9, 11))
_PROTOCOLS = {"tcp": (socket.IPPROTO_TCP, _TCP_LISTEN), "udp": (socket.IPPROTO_UDP, _TCP_CLOSE)}


class ListeningSocket(NamedTuple):
    """A TCP socket that listens, or a UDP socket that is bound and not connected."""

    protocol: str
    address: IPAddress
    port: int
    inode: int

    def __str__(self) -> str:
        address = f"[{self.address}]" if self.address.version == 6 else self.address
        return f"{self.protocol} {address}:{self.port}"


@fails_as("list listening sockets")
def listening(namespace: NetworkNamespace, *protocols: str) -> list[ListeningSocket]:
    """Return all listening sockets of these protocols in a namespace, IPv4 and IPv6."""
    return _sockets(namespace, {protocol: 1 << _PROTOCOLS[protocol][1] for protocol in protocols})


@fails_as("list connections")
def has_connections(namespace: NetworkNamespace) -> bool:
    """Whether there are TCP connections for which the kernel may still send packets: all that are not fully closed."""
    return bool(_sockets(namespace, {"tcp": _TCP_OPEN}))


def _sockets(namespace: NetworkNamespace, states: Mapping[str, int]) -> list[ListeningSocket]:
    """The sockets of these protocols in these states (a bit for each), IPv4 and IPv6."""
    listed: list[ListeningSocket] = []
    with namespace.entered():
        netlink = NetlinkSocket(namespace.name, NETLINK_SOCK_DIAG)
    try:
        for protocol, family in itertools.product(states, (socket.AF_INET, socket.AF_INET6)):
            number = _PROTOCOLS[protocol][0]
            body = _REQUEST.pack(family, number, 0, states[protocol], bytes(48))
            request = Request(("list listening", protocol, "sockets"), _SOCK_DIAG_BY_FAMILY, body)
            try:
                listed += netlink.dump(request, functools.partial(_parse, protocol))
            except KernelError as error:
                if error.errno != errno.ENOENT:  # ENOENT: this kernel has no such protocol
                    raise
    finally:
        netlink.close()
    return listed


def _parse(protocol: str, body: bytes) -> ListeningSocket:
    """Parse an inet_diag_msg."""
    family = body[0]
    (port,) = struct.unpack_from("!H", body, 4)
    address = ipaddress.ip_address(body[8:12] if family == socket.AF_INET else body[8:24])
    (inode,) = struct.unpack_from("=I", body, 68)
    return ListeningSocket(protocol, address, port, inode)


def holders(inode: int) -> Iterator[int]:
    """The PIDs of processes that have the socket with this inode open."""
    link = f"socket:[{inode}]"
    for pid in procfs.pids():
        if link in procfs.open_files(pid).values():
            yield pid

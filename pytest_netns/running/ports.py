"""Probe whether a port can be reached: open, refused, unreachable, prohibited or timeout."""

from __future__ import annotations

import errno
import ipaddress
import select
import socket
import struct
from collections.abc import Sequence
from typing import Literal, TypeAlias

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import sockets
from pytest_netns.kernel.system.waiting import Deadline
from pytest_netns.values import IPAddress

Answer: TypeAlias = Literal["open", "refused", "unreachable", "prohibited", "timeout"]

_IP_RECVERR, _IPV6_RECVERR = 11, 25
_EXTENDED_ERROR = struct.Struct("=IBBBxII")  # errno, origin, type, code, info, data: sock_extended_err, ip(7)
_ORIGIN_ICMP, _ORIGIN_ICMP6 = 2, 3
# Destination unreachable with these codes: administratively prohibited (RFC 1122 3.2.2.1 and RFC 1812 5.2.7.1; RFC 4443 3.1).
_PROHIBITED = {(_ORIGIN_ICMP, 9), (_ORIGIN_ICMP, 10), (_ORIGIN_ICMP, 13), (_ORIGIN_ICMP6, 1), (_ORIGIN_ICMP6, 5)}
_ANSWERS: dict[int, Answer] = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.EACCES: "prohibited",  # a route of type prohibit, ip-route(8), or the ICMPv6 code for it
    errno.EPERM: "prohibited",  # an output rule of this namespace's own firewall
}
_UDP_PAYLOAD = b"\0"


def probe(
    network: NetworkNamespace, addresses: Sequence[IPAddress], port: int, protocol: str, timeout: float
) -> Answer:
    """Try the addresses in turn; returns "open" if one is, else the answer of the first one."""
    if not isinstance(timeout, int | float) or timeout <= 0:
        raise InvalidTopologyError(f"cannot probe with time-out {timeout!r}: write seconds, more than 0")
    answers: list[Answer] = []
    for address in addresses:
        answers.append(_probe(network, address, port, protocol, timeout))
        if answers[-1] == "open":
            break
    return answers[-1] if answers[-1] == "open" else answers[0]


def _probe(network: NetworkNamespace, address: IPAddress, port: int, protocol: str, timeout: float) -> Answer:
    family = socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with network.entered():
        client = sockets.Socket(family, kind | socket.SOCK_NONBLOCK)
    with client:
        if family == socket.AF_INET:
            client.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        else:
            client.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        try:
            return _probe_address(client, (str(address), port), protocol, Deadline(timeout))
        except OSError as error:
            if _is_prohibited(client):
                return "prohibited"
            if error.errno in _ANSWERS:
                return _ANSWERS[error.errno]
            raise


def _probe_address(client: socket.socket, address: tuple[str, int], protocol: str, deadline: Deadline) -> Answer:
    poll = select.poll()
    if protocol == "tcp":
        code = client.connect_ex(address)
        poll.register(client, select.POLLOUT)
        if code == errno.EINPROGRESS:
            if not poll.poll(deadline.remaining() * 1000):
                return "timeout"
            code = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == errno.ETIMEDOUT:
            return "timeout"
        if code:
            raise OSError(code, "probe")
        return "open"
    client.connect(address)
    client.send(_UDP_PAYLOAD)
    poll.register(client, select.POLLIN)
    if not poll.poll(deadline.remaining() * 1000):
        return "timeout"
    client.recv(1)
    return "open"


def _is_prohibited(client: socket.socket) -> bool:
    """Whether an ICMP error names a firewall, rather than routing, as the reason."""
    try:
        _, ancillary, _, _ = client.recvmsg(1, 256, socket.MSG_ERRQUEUE)
    except OSError:
        return False
    for _, _, data in ancillary:
        if len(data) >= _EXTENDED_ERROR.size:
            _, origin, _, code, _, _ = _EXTENDED_ERROR.unpack_from(data)
            if (origin, code) in _PROHIBITED:
                return True
    return False

"""Read the packets of nft's ``log group`` (NFLOG). This works in any network namespace, unlike the kernel log."""

from __future__ import annotations

import contextlib
import struct
from collections import deque
from typing import NamedTuple

from pytest_netns.kernel.netlink import nfnetlink, wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NetlinkSocket

_NFULNL_MSG_PACKET, _NFULNL_MSG_CONFIG = 0, 1
# linux/netfilter/nfnetlink_log.h
_NFULA_TIMESTAMP, _NFULA_IFINDEX_INDEV, _NFULA_IFINDEX_OUTDEV, _NFULA_PAYLOAD = 3, 4, 5, 9
_NFULA_CFG_CMD, _NFULA_CFG_MODE, _NFULA_CFG_QTHRESH = 1, 2, 5
_NFULNL_CFG_CMD_BIND, _NFULNL_COPY_PACKET = 1, 2
_COPY_ALL = 0xFFFF
_BUFFER = 8 << 20  # bytes of packets not yet read
KEPT = 10_000  # packets


class LoggedPacket(NamedTuple):
    """A packet that a rule matched, starting with its IP header.

    Attributes:
        time: seconds since 1970; 0 if the kernel did not report it.
        incoming, outgoing: indexes of the input and output interface; 0 for none.
    """

    time: float
    incoming: int
    outgoing: int
    data: bytes


class LogReader:
    """Reads the packets logged to one group, starting now.

    Args:
        netlink: a socket of the namespace, which this reader closes.
        group: the number of the group in nft.
    """

    def __init__(self, netlink: NetlinkSocket, group: int) -> None:
        self._netlink = netlink
        self._packets: deque[LoggedPacket] = deque(maxlen=KEPT)
        netlink.enlarge_buffer(_BUFFER)
        settings = (
            wire.attribute(_NFULA_CFG_CMD, struct.pack("=B", _NFULNL_CFG_CMD_BIND)),
            wire.attribute(_NFULA_CFG_MODE, struct.pack(">IBx", _COPY_ALL, _NFULNL_COPY_PACKET)),
            wire.attribute(_NFULA_CFG_QTHRESH, struct.pack(">I", 1)),  # deliver each packet at once, not after a second
        )
        for setting in settings:
            body = nfnetlink.header(resource=group) + setting
            kind = nfnetlink.ulog(_NFULNL_MSG_CONFIG)
            netlink.request(Request(("read nft log group", group), kind, body))

    def packets(self) -> list[LoggedPacket]:
        """Return the most recent packets, at most KEPT."""
        with contextlib.suppress(OSError):  # the buffer overflowed: read on after the lost packets
            self._read()
        self._read()
        return list(self._packets)

    def _read(self) -> None:
        for message in self._netlink.notifications():
            if message.type == nfnetlink.ulog(_NFULNL_MSG_PACKET):
                self._packets.append(parse(message.body))

    def close(self) -> None:
        """Stop; idempotent."""
        self._netlink.close()


def open_log(netlink: NetlinkSocket, group: int) -> LogReader:
    """Read a log group; closes the socket if the kernel refuses."""
    try:
        return LogReader(netlink, group)
    except BaseException:
        netlink.close()
        raise


def parse(body: bytes) -> LoggedPacket:
    """Parse an NFULNL_MSG_PACKET message."""
    attributes = wire.attributes(body, nfnetlink.HEADER_SIZE)
    incoming, outgoing = (
        int.from_bytes(attributes.get(kind, b""), "big") for kind in (_NFULA_IFINDEX_INDEV, _NFULA_IFINDEX_OUTDEV)
    )
    seconds, microseconds = struct.unpack(">QQ", attributes.get(_NFULA_TIMESTAMP, bytes(16)))
    return LoggedPacket(seconds + microseconds / 1e6, incoming, outgoing, attributes.get(_NFULA_PAYLOAD, b""))

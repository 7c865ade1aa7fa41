"""Packets as the interfaces of a namespace send and receive them, packet(7).

One socket for a namespace sees all its interfaces, those made later too; it is opened before there are any, so nothing
is missed. A frame is kept as one bytes object, so that small ones take little more room than on the wire.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import socket
import struct
import sys
import threading
from typing import NamedTuple

from pytest_netns.kernel.netlink import rtlinks
from pytest_netns.kernel.spaces import capture_threads
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import sockets

KEPT_BYTES = 8 << 20  # of each namespace's packets, as Python holds them; the last ones
_LARGEST = 66000  # bytes of a packet, which may be one before segmentation
_BUFFER = 4 << 20  # bytes the kernel keeps for each namespace until they are read
_MOST_AT_ONCE = 16384  # packets: more than fit into the buffer, so one reading has all there were when it began
_SLOT = sys.getsizeof((None,)) - sys.getsizeof(())  # bytes of a reference

_ETH_P_ALL, _ETH_P_8021Q = 3, 0x8100
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_SO_RCVBUFFORCE, _SOL_PACKET, _PACKET_STATISTICS, _PACKET_AUXDATA = 33, 263, 6, 8
_TP_STATUS_VLAN_VALID, _TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40
_AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata: status, length, kept, mac, net, VLAN tag, its type
_TIMESPECS = {16: struct.Struct("=qq"), 8: struct.Struct("=ii")}  # by size: on 32-bit machines it is half as large
_ANCILLARY = socket.CMSG_SPACE(max(_TIMESPECS)) + socket.CMSG_SPACE(_AUXDATA.size)
_RECORD = struct.Struct(">QHB")  # nanoseconds since 1970, number of the interface, whether sent: sorts by time
_TAG_AT = 12  # bytes of MAC addresses before a VLAN tag


class Frame(NamedTuple):
    """A frame as it was seen.

    Attributes:
        time: nanoseconds since 1970.
        interface: its name; empty where it was deleted before the frame was read.
        sent: whether the interface sent it.
        ethernet: whether it starts with an Ethernet header, rather than an IP header.
    """

    time: int
    interface: str
    sent: bool
    ethernet: bool
    data: bytes


class Room:
    """The room that the sockets of one capture share.

    Args:
        most: bytes for all of them together, as Python holds them; None for no limit but that of each.

    Attributes:
        lock: held while one of them changes.
    """

    def __init__(self, most: int | None = None) -> None:
        self.lock = threading.Lock()
        self._most = most
        self._used = 0
        self._sockets = 0

    def join(self) -> None:
        """There is one more to share it."""
        self._sockets += 1

    def take(self, size: int) -> None:
        """Take some; give it back where it is negative."""
        self._used += size

    def is_short(self, used: int) -> bool:
        """Whether somebody who uses this much has to give some back."""
        if used > KEPT_BYTES:
            return True
        return self._most is not None and self._used > self._most and used > self._most // self._sockets


class CaptureSocket:
    """What has passed the interfaces of a namespace since this was made.

    Args:
        room: where it is kept.
        inside: whether the calling thread is in the namespace.

    Attributes:
        dropped: how many packets could not be kept.
        unnamed: how many of these were of interfaces whose names are not UTF-8: Python cannot receive them.
    """

    def __init__(self, namespace: NetworkNamespace, room: Room, *, inside: bool = False) -> None:
        self.dropped = self.unnamed = 0
        self._forgotten = 0  # how many were kept once, and are not any more
        self._records: collections.deque[bytes] = collections.deque()
        self._interfaces: list[tuple[str, bool]] = []  # name, whether with Ethernet headers
        self._numbers: dict[tuple[str, bool], int] = {}
        self._bytes = 0
        self._room = room
        with contextlib.nullcontext() if inside else namespace.entered():
            self._socket: socket.socket | None = _open()
        room.join()
        capture_threads.background().add(self)

    def frames(self, since: int = 0) -> tuple[list[Frame], int]:
        """The frames kept up to this moment, and how many there have been; without the first ``since`` of these."""
        self.read()
        with self._room.lock:
            records = list(itertools.islice(self._records, max(since - self._forgotten, 0), None))
            count = self._forgotten + len(self._records)
        return list(map(self.decode, records)), count

    def records(self, last: int | None = None) -> list[bytes]:
        """The frames kept, or only the last of them, undecoded: as such they sort by time."""
        self.read()
        with self._room.lock:
            skipped = 0 if last is None else max(len(self._records) - last, 0)
            return list(itertools.islice(self._records, skipped, None))

    def decode(self, record: bytes) -> Frame:
        """The frame in a record."""
        time, number, sent = _RECORD.unpack_from(record)
        name, ethernet = self._interfaces[number]
        return Frame(time, name, bool(sent), ethernet, record[_RECORD.size :])

    @property
    def kept(self) -> int:
        """How many frames are kept."""
        return len(self._records)

    def read(self) -> bool:
        """Fetch what the kernel has kept until now; whether there was something."""
        with self._room.lock:
            found = False
            for _ in range(_MOST_AT_ONCE):
                if self._socket is None:
                    return False
                try:
                    data, ancillary, _, address = self._socket.recvmsg(_LARGEST, _ANCILLARY)
                except (BlockingIOError, InterruptedError):
                    break
                except UnicodeDecodeError:  # the interface's name
                    self.dropped += 1
                    self.unnamed += 1
                    continue
                except OSError as error:
                    if error.errno != errno.ENETDOWN:  # an interface went down: told once, the socket goes on
                        raise
                    continue
                self._keep(data, ancillary, address)
                found = True
            if self._socket is not None:
                statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
                self.dropped += struct.unpack_from("=4xI", statistics)[0]
            return found

    def close(self) -> None:
        """Stop; idempotent. The frames stay."""
        try:
            self.read()
        finally:
            with self._room.lock:
                own, self._socket = self._socket, None
            if own is not None:
                capture_threads.background().close(self, own)

    def _keep(self, data: bytes, ancillary: list[tuple[int, int, bytes]], address: tuple[str, int, int, int]) -> None:
        name, _, packet_type, hardware = address[:4]
        if name.startswith(rtlinks.HIDDEN):
            return  # on its way to the user-space wire; seen again when the impaired interface sends it
        sent = packet_type == socket.PACKET_OUTGOING
        if sent and hardware == _ARPHRD_LOOPBACK:
            return  # the loopback interface receives it too
        moment = 0
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == capture_threads.SO_TIMESTAMPNS:
                moment = read_timespec(value)
            elif level == _SOL_PACKET and kind == _PACKET_AUXDATA:
                data = _with_vlan_tag(data, value)
        place = (name, hardware in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK))
        number = self._numbers.get(place)
        if number is None:
            number = self._numbers[place] = len(self._interfaces)
            self._interfaces.append(place)
        self._add(_RECORD.pack(moment, number, sent) + data)

    def _add(self, record: bytes) -> None:
        self._records.append(record)
        self._account(record, 1)
        while self._room.is_short(self._bytes):
            self._account(self._records.popleft(), -1)
            self._forgotten += 1
            self.dropped += 1

    def _account(self, record: bytes, sign: int) -> None:
        size = sign * (sys.getsizeof(record) + _SLOT)
        self._bytes += size
        self._room.take(size)


def read_timespec(value: bytes) -> int:
    """A struct timespec as the kernel gives it to this machine's programs, in nanoseconds; time(7), socket(7)."""
    seconds, nanoseconds = _TIMESPECS[len(value)].unpack(value)
    return int(seconds * 1_000_000_000 + nanoseconds)


def _with_vlan_tag(data: bytes, auxiliary: bytes) -> bytes:
    """The frame with its 802.1Q tag: the kernel takes it off on arrival, and tells it beside the frame."""
    status, _, _, _, _, tag, tag_type = _AUXDATA.unpack_from(auxiliary)
    if not status & _TP_STATUS_VLAN_VALID:
        return data
    tag_type = tag_type if status & _TP_STATUS_VLAN_TPID_VALID else _ETH_P_8021Q
    return data[:_TAG_AT] + struct.pack("!HH", tag_type, tag) + data[_TAG_AT:]


def _open() -> socket.socket:
    """A socket of the namespace the thread is in."""
    opened = sockets.Socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL))
    opened.setsockopt(socket.SOL_SOCKET, capture_threads.SO_TIMESTAMPNS, 1)
    opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except OSError:  # rootless, or in a container: as much as net.core.rmem_max lets everybody have
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    return opened

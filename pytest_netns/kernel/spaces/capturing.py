"""Capture the packets that a namespace's interfaces send and receive, packet(7).

One socket per namespace sees all its interfaces, including later ones; it is opened before there are any, so nothing
is missed. A frame is kept as one bytes object, so that small ones take little more memory than on the wire.
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

KEPT_BYTES = 8 << 20  # the memory for the most recent packets of each namespace
_LARGEST = 66000  # bytes of a packet, before segmentation
_BUFFER = 4 << 20  # bytes the kernel buffers for each namespace until they are read
_MAX_PER_READ = 16384  # packets: more than fit into the buffer, so one read returns all that were there when it began
_SLOT = sys.getsizeof((None,)) - sys.getsizeof(())  # bytes of a reference in the deque in the deque

_ETH_P_ALL, _ETH_P_8021Q = 3, 0x8100
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_SO_RCVBUFFORCE, _SOL_PACKET, _PACKET_STATISTICS, _PACKET_AUXDATA = 33, 263, 6, 8
_TP_STATUS_VLAN_VALID, _TP_STATUS_VLAN_TPID_VALID = 0x10, 0x40
_AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata: status, length, kept, mac, net, VLAN tag, its type
_TIMESPECS = {16: struct.Struct("=qq"), 8: struct.Struct("=ii")}  # by size: on 32-bit machines half as large
_CONTROL_MESSAGES = (max(_TIMESPECS), _AUXDATA.size)
# Other systems, on which suites import Capture too, may lack CMSG_SPACE.
_ANCILLARY = sum(map(socket.CMSG_SPACE, _CONTROL_MESSAGES)) if sys.platform == "linux" else 0
_RECORD = struct.Struct(">QHB")  # nanoseconds since 1970, number in _interfaces, whether sent: sorts by time
_TAG_AT = 12  # bytes of MAC addresses before a VLAN tag


class Frame(NamedTuple):
    """A captured frame.

    Attributes:
        time: nanoseconds since 1970.
        interface: its name; empty if it was deleted before the frame was read.
        sent: whether the interface sent it.
        ethernet: whether it starts with an Ethernet header, rather than an IP header.
    """

    time: int
    interface: str
    sent: bool
    ethernet: bool
    data: bytes


class MemoryBudget:
    """The memory that the sockets of one capture share.

    Args:
        limit: bytes for all of them together; None for only the limit of each, KEPT_BYTES.

    Attributes:
        lock: held while the records of one change.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.lock = threading.Lock()
        self._limit = limit
        self._used = 0
        self._sockets = 0

    def join(self) -> None:
        """Add a socket that shares it."""
        self._sockets += 1

    def take(self, size: int) -> None:
        """Allocate bytes; free them if negative."""
        self._used += size

    def is_short(self, used: int) -> bool:
        """Whether a socket that uses this much has to free some."""
        if used > KEPT_BYTES:
            return True
        return self._limit is not None and self._used > self._limit and used > self._limit // self._sockets


class CaptureSocket:
    """Captures the packets at all interfaces of a namespace from now on.

    Args:
        budget: the memory for the packets.
        inside: whether the calling thread is in the namespace.

    Attributes:
        dropped: the number of packets that could not be kept.
        unnamed: how many of these were lost because their interface's name is not UTF-8: Python cannot receive them.
    """

    def __init__(self, namespace: NetworkNamespace, budget: MemoryBudget, *, inside: bool = False) -> None:
        self.dropped = self.unnamed = 0
        self._discarded = 0  # how many old records were discarded
        self._records: collections.deque[bytes] = collections.deque()
        self._interfaces: list[tuple[str, bool]] = []  # name, whether with Ethernet headers
        self._numbers: dict[tuple[str, bool], int] = {}
        self._bytes = 0
        self._budget = budget
        with contextlib.nullcontext() if inside else namespace.entered():
            self._socket: socket.socket | None = _open()
        budget.join()
        capture_threads.background().add(self)

    def frames(self, since: int = 0) -> tuple[list[Frame], int]:
        """Return the frames kept so far and their total number, skipping the first ``since`` of these."""
        self.read()
        with self._budget.lock:
            records = list(itertools.islice(self._records, max(since - self._discarded, 0), None))
            count = self._discarded + len(self._records)
        return list(map(self.decode, records)), count

    def records(self, last: int | None = None) -> list[bytes]:
        """Return the frames kept, or only the last ones, undecoded: records sort by time."""
        self.read()
        with self._budget.lock:
            skipped = 0 if last is None else max(len(self._records) - last, 0)
            return list(itertools.islice(self._records, skipped, None))

    def decode(self, record: bytes) -> Frame:
        """Decode the frame in a record."""
        number: int
        time, number, sent = _RECORD.unpack_from(record)
        name, ethernet = self._interfaces[number]
        return Frame(time, name, bool(sent), ethernet, record[_RECORD.size :])

    @property
    def kept(self) -> int:
        """The number of frames kept."""
        return len(self._records)

    def read(self) -> bool:
        """Fetch what the kernel has buffered; returns whether there was anything."""
        with self._budget.lock:
            received = False
            for _ in range(_MAX_PER_READ):
                if self._socket is None:
                    return False
                try:
                    data, ancillary, _, address = self._socket.recvmsg(_LARGEST, _ANCILLARY)
                except (BlockingIOError, InterruptedError):
                    break
                except UnicodeDecodeError:  # the interface's name is not UTF-8 is not UTF-8
                    self.dropped += 1
                    self.unnamed += 1
                    continue
                except OSError as error:
                    if error.errno != errno.ENETDOWN:  # an interface went down: reported once, the socket stays usable
                        raise
                    continue
                self._keep(data, ancillary, address)
                received = True
            if self._socket is not None:
                statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
                self.dropped += struct.unpack_from("=4xI", statistics)[0]
            return received

    def close(self) -> None:
        """Stop capturing; idempotent. The frames are kept."""
        try:
            self.read()
        finally:
            with self._budget.lock:
                capture_socket, self._socket = self._socket, None
            if capture_socket is not None:
                capture_threads.background().close(self, capture_socket)

    def _keep(self, data: bytes, ancillary: list[tuple[int, int, bytes]], address: tuple[str, int, int, int]) -> None:
        name, _, packet_type, hardware = address[:4]
        if name.startswith(rtlinks.HIDDEN):
            return  # redirected to the user-space wire; captured when the impaired interface sends it
        sent = packet_type == socket.PACKET_OUTGOING
        if sent and hardware == _ARPHRD_LOOPBACK:
            return  # the loopback interface receives it too
        timestamp = 0
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == capture_threads.SO_TIMESTAMPNS:
                timestamp = read_timespec(value)
            elif level == _SOL_PACKET and kind == _PACKET_AUXDATA:
                data = _with_vlan_tag(data, value)
        interface = (name, hardware in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK))
        number = self._numbers.get(interface)
        if number is None:
            number = self._numbers[interface] = len(self._interfaces)
            self._interfaces.append(interface)
        self._add(_RECORD.pack(timestamp, number, sent) + data)

    def _add(self, record: bytes) -> None:
        self._records.append(record)
        self._account(record, 1)
        while self._budget.is_short(self._bytes):
            self._account(self._records.popleft(), -1)
            self._discarded += 1
            self.dropped += 1

    def _account(self, record: bytes, sign: int) -> None:
        size = sign * (sys.getsizeof(record) + _SLOT)
        self._bytes += size
        self._budget.take(size)


def read_timespec(value: bytes) -> int:
    """Convert a struct timespec of this machine to nanoseconds; time(7), socket(7)."""
    seconds, nanoseconds = _TIMESPECS[len(value)].unpack(value)
    return int(seconds * 1_000_000_000 + nanoseconds)


def _with_vlan_tag(data: bytes, auxiliary: bytes) -> bytes:
    """Insert the frame's 802.1Q tag: the kernel strips it on arrival and reports it as ancillary data."""
    status, _, _, _, _, tag, tag_type = _AUXDATA.unpack_from(auxiliary)
    if not status & _TP_STATUS_VLAN_VALID:
        return data
    tag_type = tag_type if status & _TP_STATUS_VLAN_TPID_VALID else _ETH_P_8021Q
    return data[:_TAG_AT] + struct.pack("!HH", tag_type, tag) + data[_TAG_AT:]


def _open() -> socket.socket:
    """Open a packet socket in the thread's namespace."""
    opened = sockets.Socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL))
    opened.setsockopt(socket.SOL_SOCKET, capture_threads.SO_TIMESTAMPNS, 1)
    opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except OSError:  # rootless, or in a container: limited by net.core.rmem_max
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    return opened

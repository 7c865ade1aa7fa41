"""Packets as the interfaces of a namespace send and receive them, packet(7).

One socket for a namespace sees all its interfaces, those made later too; it is opened before there are any, so nothing
is missed. The kernel keeps what has not been read, up to a limit; one thread reads all sockets now and then, so that
short tests pay nothing for it.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import NamedTuple

from pytest_netns.kernel.spaces.netns import NetworkNamespace, home

KEPT_BYTES = 8 << 20  # of each namespace's packets; the last ones
_LARGEST = 66000  # bytes of a packet, which may be one before segmentation
_BUFFER = 4 << 20  # bytes the kernel keeps for each namespace until they are read
_INTERVAL = 0.05  # seconds between two readings
_TOGETHER = 4  # sockets that one thread closes
_MOST_THREADS = 64  # that close, where somebody waits for it
_LINGER = 0.2  # seconds a thread stays with nothing to do
_THREAD_NAME = "netns-capture"

_ETH_P_ALL = 3
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS, _SOL_PACKET, _PACKET_STATISTICS = 33, 35, 263, 6
_TIMESPEC = struct.Struct("=qq")


class Frame(NamedTuple):
    """A frame as it was seen.

    Attributes:
        time: seconds since 1970.
        interface: its name; empty where it was deleted before the frame was read.
        sent: whether the interface sent it.
        ethernet: whether it starts with an Ethernet header, rather than an IP header.
    """

    time: float
    interface: str
    sent: bool
    ethernet: bool
    data: bytes


class CaptureSocket:
    """What has passed the interfaces of a namespace since this was made.

    Args:
        inside: whether the calling thread is in the namespace.

    Attributes:
        dropped: how many packets the kernel could not keep.
    """

    def __init__(self, namespace: NetworkNamespace, *, inside: bool = False) -> None:
        self.dropped = 0
        self._frames: collections.deque[Frame] = collections.deque()
        self._bytes = 0
        self._lock = threading.Lock()
        with contextlib.nullcontext() if inside else namespace.entered():
            self._socket: socket.socket | None = _open()
        _background().add(self)

    def frames(self) -> list[Frame]:
        """The last frames, up to this moment."""
        self.read()
        with self._lock:
            return list(self._frames)

    def read(self) -> None:
        """Fetch what the kernel has kept."""
        with self._lock:
            while self._socket is not None:
                try:
                    data, ancillary, _, address = self._socket.recvmsg(_LARGEST, 64)
                except (BlockingIOError, InterruptedError):
                    (dropped,) = struct.unpack_from("=4xI", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
                    self.dropped += dropped
                    return
                except OSError as error:
                    if error.errno != errno.ENETDOWN:  # an interface went down: told once, the socket goes on
                        raise
                    continue
                self._keep(data, ancillary, address)

    def close(self) -> None:
        """Stop; idempotent. The frames stay."""
        self.read()
        with self._lock:
            own, self._socket = self._socket, None
        if own is not None:
            _background().close(self, own)

    def _keep(self, data: bytes, ancillary: list[tuple[int, int, bytes]], address: tuple[str, int, int, int]) -> None:
        name, _, packet_type, hardware = address[:4]
        sent = packet_type == socket.PACKET_OUTGOING
        if sent and hardware == _ARPHRD_LOOPBACK:
            return  # the loopback interface receives it too
        seconds, nanoseconds = _TIMESPEC.unpack_from(ancillary[0][2])
        ethernet = hardware in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK)
        self._frames.append(Frame(seconds + nanoseconds / 1e9, name, sent, ethernet, data))
        self._bytes += len(data)
        while self._bytes > KEPT_BYTES:
            self._bytes -= len(self._frames.popleft().data)
            self.dropped += 1


class _Background:
    """This module's threads: one reads, and now and then has others close. It ends soon after there is nothing left to
    do (not at once: the next test is likely to need it), and is outside of any lab's namespace, which a thread inside
    would keep alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[CaptureSocket] = set()
        self._closed: list[socket.socket] = []
        self._reading = False
        with home():
            # The kernel stamps packets on arrival only while somebody wants it.
            self._stamping = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._stamping.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)

    def add(self, each: CaptureSocket) -> None:
        """Read a socket now and then."""
        with self._lock:
            self._open.add(each)
            if not self._reading:
                with contextlib.suppress(RuntimeError):  # no thread to be had: then only what the kernel keeps is kept
                    _start(self._work)
                    self._reading = True

    def close(self, each: CaptureSocket, own: socket.socket) -> None:
        """Close a socket on the side: the kernel waits for all packets under way, 8 ms to 20 ms."""
        with self._lock:
            self._open.discard(each)
            self._closed.append(own)
            working = self._reading
        if not working:
            self.flush()

    def flush(self, threads: int = 0) -> None:
        """Close at once what waits for it, in so many threads; 0: as few as keep up with short tests."""
        with self._lock:
            closed, self._closed = self._closed, []
        together = max(-(-len(closed) // threads), 1) if threads else _TOGETHER
        for first in range(0, len(closed), together):
            some = closed[first : first + together]
            try:
                _start(_close_together, some)
            except RuntimeError:  # no thread to be had
                _close_together(some)

    def stop(self) -> None:
        """Close its own socket."""
        self._stamping.close()

    def _work(self) -> None:
        pause = threading.Event()
        idle = 0.0
        while idle <= _LINGER:
            pause.wait(_INTERVAL)
            self.flush()
            with self._lock:
                sockets = tuple(self._open)
                idle = 0 if sockets or self._closed else idle + _INTERVAL
                self._reading = idle <= _LINGER
            for each in sockets:
                with contextlib.suppress(OSError):
                    each.read()


def _close_together(sockets: list[socket.socket]) -> None:
    """Close several with one system call: with a unix socket the kernel drops the descriptors that are queued in it.

    One after the other, each would have to wait for the interpreter's lock, and the test for it.
    """
    with contextlib.ExitStack() as queue:
        with contextlib.suppress(OSError):  # no descriptors to be had: then one after the other, all the same
            ours, _ = map(queue.enter_context, socket.socketpair())
            socket.send_fds(ours, [b"."], [each.fileno() for each in sockets])
        for each in sockets:
            each.close()


def _start(work: Callable[..., None], *arguments: object) -> None:
    with home():
        threading.Thread(target=work, args=arguments, name=_THREAD_NAME, daemon=True).start()


_current: _Background | None = None
_lock = threading.Lock()


def _background() -> _Background:
    global _current
    with _lock:
        if _current is None:
            _current = _Background()
            atexit.register(_stop)
        return _current


def flush() -> None:
    """Close soon what waits to be closed: somebody waits for the end of its namespaces."""
    if _current is not None:
        _current.flush(_MOST_THREADS)


def _open() -> socket.socket:
    """A socket of the namespace the thread is in."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL))
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    with contextlib.suppress(OSError):  # a container may not allow it: then it is what rmem_default says
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    return opened


def _stop() -> None:
    global _current
    if _current is not None:
        _current.stop()
        _current = None


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    _stop()  # its threads are not here


os.register_at_fork(after_in_child=_after_fork_in_child)

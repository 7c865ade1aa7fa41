"""The frames that arrive at an interface, read from memory shared with the kernel; run outside of the package.

A packet socket with a ring (packet(7), TPACKET_V2): what arrives while this process does not run is kept, up to the size
of the ring, which unlike a socket's buffer does not depend on net.core.rmem_max.
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct
import time

_SOL_PACKET, _PACKET_RX_RING, _PACKET_COPY_THRESH, _PACKET_VERSION = 263, 5, 7, 10
_TPACKET_V2 = 1
_TO_KERNEL, _TO_USER, _COPIED, _VLAN, _VLAN_PROTOCOL = 0, 0x1, 0x2, 0x10, 0x40  # TP_STATUS_
_HEADER = struct.Struct("=IIIHHIIHH")  # struct tpacket2_hdr
_FRAMES, _LARGE_FRAMES = 1024, 64
_BLOCK = 1 << 16  # bytes
_OVERHEAD = 128  # bytes before a frame in its slot: the header, an address, room for alignment
_LARGEST = 1 << 17
_LONGEST_WAIT = 1.0  # seconds; an older time stamp is a clock that was set
_ETHERNET = 18  # bytes of an Ethernet header with a VLAN tag
_8021Q = 0x8100


class _Geometry:
    """How the memory is divided, for frames of an MTU: one slot for each."""

    def __init__(self, mtu: int) -> None:
        self.slot = 1 << (mtu + _ETHERNET + _OVERHEAD - 1).bit_length()
        self.block = max(_BLOCK, self.slot)
        self.count = _FRAMES if self.slot <= _BLOCK else _LARGE_FRAMES
        self.size = self.count * self.slot


def prepare(receive: socket.socket, mtu: int) -> None:
    """Give a packet socket its memory: before it is bound, since a bound one would have to wait for the kernel.

    Args:
        receive: of the protocol 0.
        mtu: in bytes; longer frames come by the socket's buffer, which is smaller.
    """
    shape = _Geometry(mtu)
    receive.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
    receive.setsockopt(_SOL_PACKET, _PACKET_COPY_THRESH, _LARGEST)
    request = struct.pack("=4I", shape.block, shape.size // shape.block, shape.slot, shape.count)
    receive.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)


class Ring:
    r"""What a packet socket receives.

    Args:
        receive: a socket that was `prepare`\ d for the same MTU, and bound.
        mtu: in bytes.
    """

    def __init__(self, receive: socket.socket, mtu: int) -> None:
        self._socket = receive
        shape = _Geometry(mtu)
        self._map = mmap.mmap(receive.fileno(), shape.size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._words = memoryview(self._map).cast("I")
        self._slot = shape.slot
        self._step = shape.slot // 4
        self._count = shape.count
        self._next = 0

    def frames(self, most: int) -> list[tuple[float, bytes]]:
        """Up to so many frames that have arrived, each with how many seconds ago."""
        found: list[tuple[float, bytes]] = []
        now = time.time()
        while len(found) < most:
            word = self._next * self._step
            if not self._words[word] & _TO_USER:
                break
            offset = self._next * self._slot
            status, _, length, start, _, seconds, nanoseconds, tag, protocol = _HEADER.unpack_from(self._map, offset)
            frame = self._map[offset + start : offset + start + length]
            if status & _COPIED:  # too long for its slot
                with contextlib.suppress(OSError):
                    frame = self._socket.recv(_LARGEST, socket.MSG_DONTWAIT)
            self._words[word] = _TO_KERNEL
            self._next = (self._next + 1) % self._count
            if status & _VLAN:  # the kernel has taken the tag out of the frame
                kind = protocol if status & _VLAN_PROTOCOL else _8021Q
                frame = frame[:12] + struct.pack("!HH", kind, tag) + frame[12:]
            age = now - seconds - nanoseconds / 1e9
            found.append((age if 0 <= age <= _LONGEST_WAIT else 0.0, frame))
        return found

    def close(self) -> None:
        """Let go of the memory and the socket."""
        self._words.release()
        self._map.close()
        self._socket.close()

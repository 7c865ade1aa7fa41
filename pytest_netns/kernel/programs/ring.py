"""Read the frames that arrive at a namespace's interfaces from memory shared with the kernel; run outside of the package.

A packet socket with a ring (packet(7), TPACKET_V2): frames that arrive while this process does not run are kept, up to the size
of the ring. Unlike a socket's buffer, it does not depend on net.core.rmem_max.
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct
import time

_SOL_PACKET, _RX_RING, _COPY_THRESH, _VERSION, _IGNORE_OUTGOING = 263, 5, 7, 10, 23  # PACKET_
_TPACKET_V2, _ETH_P_ALL, _SO_RCVBUFFORCE = 1, 3, 33
_TO_KERNEL, _TO_USER, _COPIED, _VLAN, _VLAN_PROTOCOL = 0, 0x1, 0x2, 0x10, 0x40  # TP_STATUS_
# struct tpacket2_hdr: status, length, length here, start, -, seconds, nanoseconds, VLAN tag, its protocol; then of struct
# sockaddr_ll: -, -, interface
_HEADER = struct.Struct("=IIIHHIIHH4x HHi")
_SLOT, _SLOTS, _BLOCK = 2048, 4096, 1 << 16  # bytes of a frame, frames, bytes of a block of memory
_WORDS = _SLOT // 4
_LARGEST = 1 << 17
_BUFFER = 32 << 20  # bytes for frames that do not fit in a slot, if that much is allowed
_LONGEST_WAIT = 1.0  # seconds; an older time stamp means that the clock was set
_8021Q = 0x8100


class Ring:
    """The frames received by all interfaces of the namespace.

    Attributes:
        socket: readable when frames have arrived.
    """

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        self.socket.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V2)
        self.socket.setsockopt(_SOL_PACKET, _COPY_THRESH, _LARGEST)
        self.socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        size = _SLOT * _SLOTS
        self.socket.setsockopt(_SOL_PACKET, _RX_RING, struct.pack("=4I", _BLOCK, size // _BLOCK, _SLOT, _SLOTS))
        self._map = mmap.mmap(self.socket.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._words = memoryview(self._map).cast("I")
        self._next = 0

    def frames(self, most: int) -> list[tuple[int, float, bytes]]:
        """Return up to a number of received frames: interface index, age in seconds, content."""
        frames: list[tuple[int, float, bytes]] = []
        now = time.time()
        while len(frames) < most:
            word = self._next * _WORDS
            if not self._words[word] & _TO_USER:
                break
            offset = self._next * _SLOT
            status, _, length, start, _, seconds, nanoseconds, tag, protocol, _, _, index = _HEADER.unpack_from(
                self._map, offset
            )
            frame = self._map[offset + start : offset + start + length]
            if status & _COPIED:  # too long for its slot
                with contextlib.suppress(OSError):
                    frame = self.socket.recv(_LARGEST, socket.MSG_DONTWAIT)
            self._words[word] = _TO_KERNEL
            self._next = (self._next + 1) % _SLOTS
            if status & _VLAN:  # the kernel has taken the tag out of the frame
                kind = protocol if status & _VLAN_PROTOCOL else _8021Q
                frame = frame[:12] + struct.pack("!HH", kind, tag) + frame[12:]
            age = now - seconds - nanoseconds / 1e9
            frames.append((index, age if 0 <= age <= _LONGEST_WAIT else 0.0, frame))
        return frames

"""Captures: the packets of a lab, during and after the capture."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias, overload

from pytest_netns.errors import KernelError, NotReadyError
from pytest_netns.kernel.spaces.capturing import CaptureSocket, Frame, MemoryBudget
from pytest_netns.kernel.system.waiting import Deadline

if TYPE_CHECKING:
    from pytest_netns.kernel.spaces.netns import NetworkNamespace
    from pytest_netns.packets.dissect import Packet

_SHOWN = 20
MOST_BY_ITSELF = 100  # namespaces
MOST_BYTES_BY_ITSELF = 16 << 20  # of all namespaces together, as Python holds them


Drops: TypeAlias = Callable[[str, str, float, bytes], bool]


class Capture(Sequence["Packet"]):
    """The packets sent and received by the interfaces of a lab, in order of time; it grows until it is stopped.

    A packet from one namespace to another appears once for each interface it passed. It is captured before nft can drop it
    on input, and after nft can drop it on output.

    Args:
        drops: returns whether a fault dropped a received frame, given namespace, interface,
            seconds since 1970, frame.
        by_itself: whether it was started automatically, so that it must not fail, nor use up the process's descriptors.

    Attributes:
        problem: why packets of some namespaces are missing; empty if none are.
    """

    __slots__ = (
        "__weakref__",
        "_budget",
        "_by_itself",
        "_counts",
        "_drops",
        "_known",
        "_left",
        "_problem",
        "_sockets",
    )  # fmt: skip

    def __init__(self, *, by_itself: bool = False, drops: Drops | None = None) -> None:
        self._by_itself = by_itself
        self._drops = drops
        self._problem = ""
        self._budget = MemoryBudget(MOST_BYTES_BY_ITSELF if by_itself else None)
        self._sockets: dict[str, CaptureSocket] = {}
        self._left: list[tuple[str, CaptureSocket]] = []  # of removed namespaces, whose names may be reused
        self._known: list[Packet] = []
        self._counts: dict[str, int] = {}

    @property
    def problem(self) -> str:
        """Why packets are missing, other than for lack of memory; empty if none are."""
        unnamed = sum(each.unnamed for _, each in self._all())
        unreadable = f"{unnamed} packets of interfaces whose names are not UTF-8 were not kept" if unnamed else ""
        return "\n".join(filter(None, (self._problem, unreadable)))

    @property
    def dropped(self) -> int:
        """The number of packets not kept for lack of memory: 8 MiB for each namespace."""
        return sum(each.dropped for _, each in self._all())

    @property
    def kept(self) -> int:
        """The number of packets kept."""
        return sum(each.kept for _, each in self._all())

    def add(self, namespace: NetworkNamespace, *, inside: bool = False) -> None:
        """Add a namespace to the capture.

        Args:
            namespace: any that is open.
            inside: whether the calling thread is in it.

        Raises:
            KernelError: this process lacks CAP_NET_RAW.
        """
        if self._by_itself and len(self._sockets) >= MOST_BY_ITSELF:
            self._problem = f"only those of the first {MOST_BY_ITSELF} namespaces were recorded"
            return
        try:
            self._sockets[namespace.name] = CaptureSocket(namespace, self._budget, inside=inside)
        except OSError as error:
            if not self._by_itself:
                raise KernelError("capture packets", error.errno or 0, namespace=namespace.name) from error
            self._problem = f"those of {namespace.name} could not be recorded: {error}"

    def remove(self, name: str) -> None:
        """Discard a namespace whose creation failed."""
        socket = self._sockets.pop(name, None)
        if socket is not None:
            socket.close()

    def leave(self, name: str) -> None:
        """Stop capturing a namespace that is removed; its packets are kept."""
        socket = self._sockets.pop(name, None)
        if socket is not None:
            socket.close()
            self._left.append((name, socket))

    def stop(self) -> None:
        """Stop capturing; captured packets are kept. Idempotent."""
        for _, each in self._all():
            each.close()

    def wait(self, condition: Callable[[Packet], object], timeout: float = 5) -> Packet:
        """Wait for the first packet that meets a condition.

        Raises:
            NotReadyError: none did within ``timeout`` seconds; shows the last packets.
        """
        deadline = Deadline(timeout)
        counts: dict[str, int] = {}
        looked_at = 0
        while True:
            packets = self._since(counts)
            for packet in packets:
                if condition(packet):
                    return packet
            looked_at += len(packets)
            if deadline.is_over():
                from pytest_netns.packets.dissect import digest

                raise NotReadyError(
                    f"cannot find such a packet: none of {looked_at} packets matched after {timeout:g} s",
                    output="\n".join(digest(self.last(100 * _SHOWN), _SHOWN)),
                )
            deadline.pause()

    def last(self, most: int) -> list[Packet]:
        """The last packets, in order of time, without decoding all."""
        return list(self._in_order(most))[-most:]

    def in_order(self) -> Iterator[Packet]:
        """Yield all packets in order of time, which takes less memory than a list."""
        return self._in_order(None)

    @overload
    def __getitem__(self, index: int) -> Packet: ...
    @overload
    def __getitem__(self, index: slice) -> list[Packet]: ...
    def __getitem__(self, index: int | slice) -> Packet | list[Packet]:
        return self._packets()[index]

    def __iter__(self) -> Iterator[Packet]:
        return iter(tuple(self._packets()))

    def __len__(self) -> int:
        return len(self._packets())

    def _all(self) -> list[tuple[str, CaptureSocket]]:
        return [*self._left, *self._sockets.items()]

    def __repr__(self) -> str:
        return f"<Capture of {', '.join(self._sockets)}: {self.kept} packets>"

    def _packets(self) -> list[Packet]:
        """All packets kept; decodes only those added since the last call."""
        self._known += self._since(self._counts)
        if len(self._known) > self.kept:  # some decoded packets are no longer kept
            self._counts.clear()
            self._known = self._since(self._counts)
        else:
            self._known.sort(key=operator.attrgetter("time"))
        return self._known

    def _since(self, counts: dict[str, int]) -> list[Packet]:
        """The packets after these counts, which are updated."""
        packets: list[Packet] = []
        for name, each in self._all():
            frames, counts[name] = each.frames(counts.get(name, 0))
            packets += [self._packet(name, frame) for frame in frames]
        return sorted(packets, key=operator.attrgetter("time"))

    def _in_order(self, most: int | None) -> Iterator[Packet]:
        records = sorted(
            itertools.chain.from_iterable(
                zip(each.records(most), itertools.repeat((name, each))) for name, each in self._all()
            ),
            key=operator.itemgetter(0),
        )
        return (self._packet(name, each.decode(record)) for record, (name, each) in records)

    def _packet(self, namespace: str, frame: Frame) -> Packet:
        from pytest_netns.packets.dissect import Packet

        time, interface = frame.time / 1e9, frame.interface or "deleted"
        arrived = frame.ethernet and not frame.sent
        dropped = arrived and self._drops is not None and self._drops(namespace, interface, time, frame.data)
        return Packet(time, namespace, interface, frame.sent, frame.data, frame.ethernet, dropped)

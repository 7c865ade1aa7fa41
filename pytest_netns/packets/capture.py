"""The packets of a lab, while they flow and afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, overload

from pytest_netns.errors import KernelError, NotReadyError
from pytest_netns.kernel.spaces.capturing import CaptureSocket

if TYPE_CHECKING:
    from pytest_netns.kernel.spaces.netns import NetworkNamespace
    from pytest_netns.packets.dissect import Packet

_POLL = 0.002  # seconds
_SHOWN = 20
MOST_BY_ITSELF = 100  # namespaces


class Capture(Sequence["Packet"]):
    """The packets that the interfaces of a lab have sent and received, in order of time; it grows until it is stopped.

    A packet from one namespace to another is here once for each interface it passed.

    Args:
        by_itself: whether nobody has asked for it, so that it must not fail, nor use up the process's descriptors.

    Attributes:
        problem: why packets of some namespaces are missing; empty where none are.
    """

    def __init__(self, *, by_itself: bool = False) -> None:
        self._by_itself = by_itself
        self.problem = ""
        self._sockets: dict[str, CaptureSocket] = {}

    @property
    def dropped(self) -> int:
        """How many packets were not kept, for want of room: 8 MiB for each namespace."""
        return sum(each.dropped for each in self._sockets.values())

    def add(self, namespace: NetworkNamespace, *, inside: bool = False) -> None:
        """Capture a namespace too, from now on.

        Args:
            namespace: any that is open.
            inside: whether the calling thread is in it.

        Raises:
            KernelError: this process may not: it lacks CAP_NET_RAW.
        """
        if self._by_itself and len(self._sockets) >= MOST_BY_ITSELF:
            self.problem = f"only those of the first {MOST_BY_ITSELF} namespaces were recorded"
            return
        try:
            self._sockets[namespace.name] = CaptureSocket(namespace, inside=inside)
        except OSError as error:
            if not self._by_itself:
                raise KernelError("capture packets", error.errno or 0, namespace=namespace.name) from error
            self.problem = f"those of {namespace.name} could not be recorded: {error}"

    def remove(self, name: str) -> None:
        """Keep nothing of a namespace that could not be made after all."""
        found = self._sockets.pop(name, None)
        if found is not None:
            found.close()

    def stop(self) -> None:
        """Capture no more; what was captured stays. Idempotent."""
        for each in self._sockets.values():
            each.close()

    def wait(self, condition: Callable[[Packet], object], timeout: float = 5) -> Packet:
        """The first packet that meets a condition, waited for.

        Raises:
            NotReadyError: none did within ``timeout`` seconds; shows the last packets.
        """
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while True:
            packets = self._packets()
            for packet in packets:
                if condition(packet):
                    return packet
            if time.monotonic() >= deadline:
                from pytest_netns.packets.dissect import digest

                raise NotReadyError(
                    f"cannot find such a packet: none of {len(packets)} was, after {timeout:g} s",
                    output="\n".join(digest(packets, _SHOWN)),
                )
            pause.wait(_POLL)

    @overload
    def __getitem__(self, index: int) -> Packet: ...
    @overload
    def __getitem__(self, index: slice) -> list[Packet]: ...
    def __getitem__(self, index: int | slice) -> Packet | list[Packet]:
        return self._packets()[index]

    def __iter__(self) -> Iterator[Packet]:
        return iter(self._packets())

    def __len__(self) -> int:
        return len(self._packets())

    def __repr__(self) -> str:
        return f"<Capture of {', '.join(self._sockets)}: {len(self)} packets>"

    def _packets(self) -> list[Packet]:
        from pytest_netns.packets.dissect import Packet

        found = [
            Packet(frame.time, name, frame.interface or "deleted", frame.sent, frame.data, frame.ethernet)
            for name, each in self._sockets.items()
            for frame in each.frames()
        ]
        return sorted(found, key=lambda packet: packet.time)

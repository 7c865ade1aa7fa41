"""Captures of a lab: those that users have asked for, and the one for the report of the test. It knows no handle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import interrupts

if TYPE_CHECKING:
    from pytest_netns.packets.capture import Capture, Drops


class Captures:
    """The captures in progress.

    Args:
        networks: gives the namespaces there are.
        drops: whether a frame was dropped on purpose, see `Capture`.

    Attributes:
        recording: the packets for the report of the test; None where these are not recorded.
    """

    __slots__ = ("_drops", "_networks", "_running", "recording")

    def __init__(self, networks: Callable[[], Iterable[NetworkNamespace]], drops: Drops) -> None:
        self._networks = networks
        self._drops = drops
        self._running: list[Capture] = []
        self.recording: Capture | None = None

    @interrupts.uninterrupted
    def start(self, *, by_itself: bool = False) -> Capture:
        """Capture from now on, namespaces that are added later too."""
        from pytest_netns.packets.capture import Capture

        interrupts.guard_raising()
        capture = Capture(by_itself=by_itself, drops=self._drops)
        self._running.append(capture)
        for network in self._networks():
            capture.add(network)
        return capture

    @interrupts.uninterrupted
    def end(self, capture: Capture) -> None:
        """Capture no more; what was captured stays."""
        interrupts.guard_raising()
        self._running.remove(capture)
        capture.stop()

    def record(self) -> None:
        """Capture all packets from now on, within bounds, for the report of the test."""
        self.recording = self.start(by_itself=True)

    def forget_recording(self) -> None:
        """Let go of the packets at once, rather than when Python gets to the cycles a lab is in."""
        if self.recording is not None:
            self._running.remove(self.recording)
            self.recording = None

    def add_first(self, network: NetworkNamespace) -> None:
        """Have a new namespace captured, while the calling thread is still inside."""
        for capture in self._running:
            capture.add(network, inside=True)

    @interrupts.uninterrupted
    def remove(self, name: str) -> None:
        """Keep nothing of a namespace that could not be made after all."""
        for capture in self._running:
            capture.remove(name)

    @interrupts.uninterrupted
    def leave(self, name: str) -> None:
        """A namespace is taken out of the lab; its packets stay."""
        for capture in self._running:
            capture.leave(name)

    @interrupts.uninterrupted
    def stop(self) -> None:
        """Capture no more in any."""
        for capture in self._running:
            capture.stop()

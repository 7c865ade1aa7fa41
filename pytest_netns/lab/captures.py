"""The captures of a lab: those started by users, and the recording for the test's report. It knows no handle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import interrupts

if TYPE_CHECKING:
    from pytest_netns.packets.capture import Capture, Drops


class Captures:
    """The running captures.

    Args:
        networks: returns the lab's namespaces.
        drops: returns whether a fault dropped a frame, see `Capture`.

    Attributes:
        recording: the packets for the test's report; None if they are not recorded.
    """

    __slots__ = ("_drops", "_networks", "_running", "recording")

    def __init__(self, networks: Callable[[], Iterable[NetworkNamespace]], drops: Drops) -> None:
        self._networks = networks
        self._drops = drops
        self._running: list[Capture] = []
        self.recording: Capture | None = None

    @interrupts.uninterrupted
    def start(self, *, by_itself: bool = False) -> Capture:
        """Start a capture of all namespaces, including those added later."""
        from pytest_netns.packets.capture import Capture

        interrupts.guard_raising()
        capture = Capture(by_itself=by_itself, drops=self._drops)
        self._running.append(capture)
        for network in self._networks():
            capture.add(network)
        return capture

    @interrupts.uninterrupted
    def end(self, capture: Capture) -> None:
        """Stop a capture; its packets remain."""
        interrupts.guard_raising()
        self._running.remove(capture)
        capture.stop()

    def record(self) -> None:
        """Start recording packets, within limits, for the test's report."""
        self.recording = self.start(by_itself=True)

    def forget_recording(self) -> None:
        """Free the packets at once: a lab is in reference cycles, which Python collects later."""
        if self.recording is not None:
            self._running.remove(self.recording)
            self.recording = None

    def add_first(self, network: NetworkNamespace) -> None:
        """Start capturing a new namespace, while the calling thread is still inside."""
        for capture in self._running:
            capture.add(network, inside=True)

    @interrupts.uninterrupted
    def remove(self, name: str) -> None:
        """Forget a namespace whose creation failed."""
        for capture in self._running:
            capture.remove(name)

    @interrupts.uninterrupted
    def leave(self, name: str) -> None:
        """Stop capturing a namespace that is removed from the lab; its packets remain."""
        for capture in self._running:
            capture.leave(name)

    @interrupts.uninterrupted
    def stop(self) -> None:
        """Stop all captures."""
        for capture in self._running:
            capture.stop()

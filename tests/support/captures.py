"""The recordings of earlier tests: their threads and sockets remain for a moment."""

from __future__ import annotations

import threading
import time

from pytest_netns.kernel.spaces import capture_threads


def wait_ended(timeout: float = 10) -> None:
    """Wait until no thread records any more, so that a test counts only its own."""
    deadline = time.monotonic() + timeout
    capture_threads.flush()
    while time.monotonic() < deadline:
        recording = [thread for thread in threading.enumerate() if thread.name == "netns-capture"]
        if not recording:
            return
        recording[0].join(deadline - time.monotonic())
    raise AssertionError("a capture is still being recorded")

"""The threads behind all captures: one reads their sockets periodically, others close them.

The kernel buffers unread packets, up to a limit, so that captures cost short tests nothing.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from pytest_netns.kernel.spaces.netns import home
from pytest_netns.kernel.system import once
from pytest_netns.kernel.system.sockets import Socket, pair

SO_TIMESTAMPNS = 35
_INTERVAL, _BUSY_INTERVAL = 0.05, 0.005  # seconds between two reads, and after one that returned packets
_REST = 3  # pauses are so many times as long as the last read: captures take at most a quarter of one processor
_SOCKETS_PER_THREAD = 4  # that one thread closes
_MOST_THREADS = 64  # closing sockets while a caller waits
_LINGER = 0.2  # seconds before an idle thread exits
_THREAD_NAME = "netns-capture"


class Readable(Protocol):
    """A capture that is read periodically."""

    def read(self) -> bool:
        """Fetch what the kernel has buffered; returns whether there was anything."""
        ...


class _Background:
    """This module's threads: one reads, and starts others that close. It exits soon after there is nothing left to
    do (not at once: the next test is likely to need it). It runs outside of any lab's namespace, which a thread inside
    would keep alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[Readable] = set()
        self._closed: list[socket.socket] = []
        self._reading = False
        with home():
            # The kernel timestamps packets on arrival only while a socket requests it.
            self._timestamping = Socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._timestamping.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def add(self, capture: Readable) -> None:
        """Read a capture periodically."""
        with self._lock:
            self._open.add(capture)
            if not self._reading:
                with contextlib.suppress(RuntimeError):  # no thread available: only what the kernel buffers is kept
                    _start(self._work)
                    self._reading = True

    def close(self, capture: Readable, capture_socket: socket.socket) -> None:
        """Close a socket in the background: the kernel waits 8 ms to 20 ms for packets in flight."""
        with self._lock:
            self._open.discard(capture)
            self._closed.append(capture_socket)
            working = self._reading
        if not working:
            self.flush()

    def flush(self, threads: int = 0) -> None:
        """Close the pending sockets now, in a number of threads; 0: as few as keep up with short tests."""
        with self._lock:
            closed, self._closed = self._closed, []
        batch_size = max(-(-len(closed) // threads), 1) if threads else _SOCKETS_PER_THREAD
        for first in range(0, len(closed), batch_size):
            batch = closed[first : first + batch_size]
            try:
                _start(_close_batch, batch)
            except RuntimeError:  # no thread available
                _close_batch(batch)

    def stop(self) -> None:
        """Close its own socket."""
        self._timestamping.close()

    def _work(self) -> None:
        pause = threading.Event()
        idle = duration = 0.0
        interval = _INTERVAL
        while idle <= _LINGER:
            pause.wait(max(interval, duration * _REST))
            self.flush()
            with self._lock:
                captures = tuple(self._open)
                idle = 0 if captures or self._closed else idle + _INTERVAL
                self._reading = idle <= _LINGER
            began = time.thread_time()
            interval = _INTERVAL
            for capture in captures:
                with contextlib.suppress(Exception):  # an error of one must not stop the others
                    if capture.read():
                        interval = _BUSY_INTERVAL
            duration = time.thread_time() - began


def _close_batch(sockets: list[socket.socket]) -> None:
    """Close several with one system call: with a unix socket the kernel drops the descriptors that are queued in it.

    Closed one by one, each would wait for the interpreter's lock, and delay the test.
    """
    with contextlib.ExitStack() as queue:
        with contextlib.suppress(OSError):  # no descriptors available: close them one by one
            ours, _ = map(queue.enter_context, pair(socket.AF_UNIX, socket.SOCK_STREAM))
            socket.send_fds(ours, [b"."], [each.fileno() for each in sockets])
        for each in sockets:
            each.close()


def _start(work: Callable[..., None], *arguments: object) -> None:
    with home():
        threading.Thread(target=work, args=arguments, name=_THREAD_NAME, daemon=True).start()


_background = once.PerProcess(_Background, close=_Background.stop)  # a forked child does not have its threads


def background() -> _Background:
    """The threads of this process."""
    return _background.get()


def flush() -> None:
    """Close the pending sockets soon: a caller waits for the end of their namespaces."""
    if _background.current is not None:
        _background.current.flush(_MOST_THREADS)

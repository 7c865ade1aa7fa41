"""The threads behind all captures: one reads their sockets now and then, others close them.

The kernel keeps what has not been read, up to a limit, so that short tests pay nothing for being recorded.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from pytest_netns.kernel.spaces.netns import home
from pytest_netns.kernel.system.sockets import Socket, pair

SO_TIMESTAMPNS = 35
_INTERVAL, _BUSY_INTERVAL = 0.05, 0.005  # seconds between two readings, and where the last one had something to read
_REST = 3  # times as long as a reading took is not read: captures take at most a quarter of one processor
_TOGETHER = 4  # sockets that one thread closes
_MOST_THREADS = 64  # that close, where somebody waits for it
_LINGER = 0.2  # seconds a thread stays with nothing to do
_THREAD_NAME = "netns-capture"


class Readable(Protocol):
    """What is read now and then."""

    def read(self) -> bool:
        """Fetch what the kernel has kept; whether there was something."""
        ...


class _Background:
    """This module's threads: one reads, and now and then has others close. It ends soon after there is nothing left to
    do (not at once: the next test is likely to need it), and is outside of any lab's namespace, which a thread inside
    would keep alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[Readable] = set()
        self._closed: list[socket.socket] = []
        self._reading = False
        with home():
            # The kernel stamps packets on arrival only while somebody wants it.
            self._stamping = Socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._stamping.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def add(self, each: Readable) -> None:
        """Read a socket now and then."""
        with self._lock:
            self._open.add(each)
            if not self._reading:
                with contextlib.suppress(RuntimeError):  # no thread to be had: then only what the kernel keeps is kept
                    _start(self._work)
                    self._reading = True

    def close(self, each: Readable, own: socket.socket) -> None:
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
        idle = took = 0.0
        interval = _INTERVAL
        while idle <= _LINGER:
            pause.wait(max(interval, took * _REST))
            self.flush()
            with self._lock:
                sockets = tuple(self._open)
                idle = 0 if sockets or self._closed else idle + _INTERVAL
                self._reading = idle <= _LINGER
            began = time.thread_time()
            interval = _INTERVAL
            for each in sockets:
                with contextlib.suppress(Exception):  # whatever is wrong with one, the others are read
                    if each.read():
                        interval = _BUSY_INTERVAL
            took = time.thread_time() - began


def _close_together(sockets: list[socket.socket]) -> None:
    """Close several with one system call: with a unix socket the kernel drops the descriptors that are queued in it.

    One after the other, each would have to wait for the interpreter's lock, and the test for it.
    """
    with contextlib.ExitStack() as queue:
        with contextlib.suppress(OSError):  # no descriptors to be had: then one after the other, all the same
            ours, _ = map(queue.enter_context, pair(socket.AF_UNIX, socket.SOCK_STREAM))
            socket.send_fds(ours, [b"."], [each.fileno() for each in sockets])
        for each in sockets:
            each.close()


def _start(work: Callable[..., None], *arguments: object) -> None:
    with home():
        threading.Thread(target=work, args=arguments, name=_THREAD_NAME, daemon=True).start()


_current: _Background | None = None
_lock = threading.Lock()


def background() -> _Background:
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

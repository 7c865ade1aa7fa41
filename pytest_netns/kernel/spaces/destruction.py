"""Track the end of namespaces: the kernel reports when the last reference to one is dropped.

Each namespace gets an nsid in a hub namespace that exists only for this; RTM_DELNSID reports its end, 1-33 ms
later. Nobody waits for it: notifications are read when needed. A namespace with an nsid is ours: this is how the watchdog
recognizes them (watchdog.py).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from pytest_netns.kernel.netlink import rtnsid
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import once, waiting

GRACE = 5.0  # seconds after its lab was closed within which a namespace must be gone
# Longer for one without a holder in /proc: the kernel frees namespaces in batches, and on a busy machine may be
# seconds behind.
BUSY_GRACE = 20.0


@dataclass
class Watched:
    """A namespace whose end is tracked.

    Attributes:
        name, owner: the namespace's name, and the test it belongs to.
        closed: when its lab was closed, on the clock of `waiting.now`; None while it is open.
    """

    name: str
    owner: str
    inode: int
    closed: float | None = None


class Hub:
    """Tracks the end of namespaces, from its own namespace."""

    def __init__(self) -> None:
        self._namespace = NetworkNamespace.create("hub")
        try:
            with self._namespace.entered():
                self._events = NetlinkSocket("hub", groups=(rtnsid.RTNLGRP_NSID,))
        except BaseException:
            self._namespace.close()
            raise
        self._watched: dict[int, Watched] = {}
        self._next = 0
        self._lock = threading.Lock()

    def watch(self, namespace: NetworkNamespace, owner: str) -> Watched:
        """Track a namespace from now on."""
        with self._lock:
            nsid = self._next
            self._next += 1
            self._namespace.netlink.request(rtnsid.add_nsid(namespace.fd, nsid))
            watched = self._watched[nsid] = Watched(namespace.name, owner, namespace.inode)
        return watched

    def another_socket(self) -> NetlinkSocket:
        """Open another netlink socket of the hub, to query the nsid of a namespace: those without one are not ours."""
        with self._namespace.entered():
            return NetlinkSocket("hub")

    def alive(self) -> list[Watched]:
        """The closed namespaces the kernel has not freed yet."""
        with self._lock:
            self._drain()
            return [watched for watched in self._watched.values() if watched.closed is not None]

    def overdue(self, grace: float) -> list[Watched]:
        """The namespaces still alive so many seconds after their lab was closed."""
        if self._late(grace):
            self._refresh()  # a missed notification must not cause a report
        return self._late(grace)

    def _late(self, grace: float) -> list[Watched]:
        now = waiting.now()
        return [watched for watched in self.alive() if watched.closed is not None and now - watched.closed >= grace]

    def _refresh(self) -> None:
        with self._lock:
            self._list()

    def forget(self, watched: Watched) -> None:
        """Stop tracking a namespace that has been reported."""
        with self._lock:
            self._watched = {nsid: other for nsid, other in self._watched.items() if other is not watched}

    def wait(self, seconds: float) -> None:
        """Wait so many seconds at most until all closed namespaces are gone."""
        deadline = waiting.Deadline(seconds, last=0.002)
        while self.alive():
            if deadline.is_over():
                self._refresh()
                return
            deadline.pause()

    def close(self) -> None:
        """Stop tracking."""
        self._events.close()
        self._namespace.close()

    def _drain(self) -> None:
        try:
            for message in self._events.notifications():
                if message.type == rtnsid.RTM_DELNSID:
                    self._watched.pop(rtnsid.parse_nsid(message.body), None)
        except OSError:  # some were lost, and the kernel silently drops further ones until all have been read
            self._events.has_notifications()
            self._list()

    def _list(self) -> None:
        """Keep only namespaces that still have an nsid; the lock is held."""
        alive = self._nsids()
        self._watched = {nsid: watched for nsid, watched in self._watched.items() if nsid in alive}

    def _nsids(self) -> set[int]:
        """All nsids that still refer to a namespace."""
        return set(self._namespace.netlink.dump(rtnsid.dump_nsids(), rtnsid.parse_nsid))


_hub = once.PerProcess(Hub, close=Hub.close)


def hub() -> Hub:
    """The hub of this process."""
    return _hub.get()


def hub_if_any() -> Hub | None:
    """The hub, if this process has ever created a namespace."""
    return _hub.current

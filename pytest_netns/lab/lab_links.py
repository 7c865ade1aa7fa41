"""LabLinks: the interfaces of all namespaces of a lab."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator

from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.lab.link import Link
from pytest_netns.lab.links import Links


class LabLinks:
    """The interfaces of all namespaces of a lab.

    Args:
        lock: held while interfaces are created.

    Attributes:
        members: the interfaces of each namespace.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self.lock = lock
        self.members: list[Links] = []
        self._waiting: dict[int, list[Link]] = {}  # by thread

    @contextlib.contextmanager
    def batch(self) -> Generator[None]:
        """Create many interfaces: the waits for each of them are done at the end of the block."""
        thread = threading.get_ident()
        waiting = self._waiting.setdefault(thread, [])
        try:
            yield
        finally:
            del self._waiting[thread]
        for link in waiting:
            link.home.wait_link_local(link)

    def defers(self, link: Link) -> bool:
        """Defer the wait for an interface to the end of this thread's block; returns False if there is none."""
        waiting = self._waiting.get(threading.get_ident())
        if waiting is not None:
            waiting.append(link)
        return waiting is not None

    def add(self, network: NetworkNamespace, *, owner: object, changed: Callable[[], None]) -> Links:
        """Add the interfaces of a namespace; the arguments are those of `Links`."""
        links = Links(network, self, owner=owner, changed=changed)
        self.members.append(links)
        return links

    def remove(self, links: Links) -> None:
        """Remove a namespace; the kernel may reuse its nsid."""
        links.leave()
        self.members.remove(links)
        for other in self.members:
            other.forget_nsids()

    def named(self, name: str) -> Links | None:
        """The interfaces of a namespace, by its name; None if there is none."""
        return next((links for links in self.members if links.name == name), None)

"""pyroute2's objects bound to a namespace: their sockets are opened inside, whichever thread uses them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_netns.kernel.spaces.netns import NetworkNamespace

if TYPE_CHECKING:
    from pyroute2 import NDB, AsyncIPRoute, Conntrack, IPRoute

T = TypeVar("T")


def open_iproute(network: NetworkNamespace) -> IPRoute:
    """An `IPRoute`, for code outside event loops."""
    from pyroute2 import IPRoute

    return _bound(network, IPRoute)


def open_async_iproute(network: NetworkNamespace) -> AsyncIPRoute:
    """An `AsyncIPRoute`, for a running event loop."""
    from pyroute2 import AsyncIPRoute

    return _bound(network, AsyncIPRoute)


def open_conntrack(network: NetworkNamespace) -> Conntrack:
    """A `Conntrack`."""
    from pyroute2 import Conntrack

    return _bound(network, Conntrack)


def open_ndb(network: NetworkNamespace) -> NDB:
    """An `NDB`; its threads are started inside, so all their sockets are inside."""
    from pyroute2 import NDB

    with network.entered():
        return NDB()


def close(opened: Any) -> None:
    """Close one of these; idempotent."""
    with contextlib.suppress(OSError):  # closed already
        opened.close()


def _bound(network: NetworkNamespace, make: Callable[[], T]) -> T:
    """Create a netlink object whose sockets, one for each thread that uses it, are opened in the namespace."""
    with network.entered():
        made = make()
    core: Any = getattr(made, "asyncore", made)
    setup_socket = core.setup_socket

    def setup_inside() -> Any:
        with network.opened().entered():
            return setup_socket()

    core.setup_socket = setup_inside
    return made

"""Link: what is known of an interface; everything else is read from the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_netns.lab.links import Links


class Link:
    """A known interface.

    Attributes:
        home: the interfaces of its namespace.
        index: its index there.
        name: its last known name.
        mac: its last known MAC address; empty if never read.
        port_mtu: for a bridge, the default MTU of its ports.
        handle: the user's handle of it; never used here.
    """

    __slots__ = ("handle", "home", "index", "mac", "name", "port_mtu")

    def __init__(self, home: Links, index: int, name: str, mac: str = "") -> None:
        self.home = home
        self.index = index
        self.name = name
        self.mac = mac
        self.port_mtu: int | None = None
        self.handle: Any = None

    def __repr__(self) -> str:
        return f"<Link {self.name} in {self.home.name}>"

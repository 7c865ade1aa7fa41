"""The nft ruleset of a namespace as the kernel has it: read, changed, and watched for changes by something else."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink import conntrack, nfrules, nftranslations
from pytest_netns.kernel.netlink.conntrack import TrackedConnection
from pytest_netns.kernel.netlink.socket import NETLINK_NETFILTER, NetlinkSocket
from pytest_netns.kernel.nft import command
from pytest_netns.kernel.nft.nftables import Nft
from pytest_netns.lab import tracking
from pytest_netns.lab.links import Links
from pytest_netns.parts.gateway.nftext import Effect

_FIRST_LOG_GROUP = 1000  # users probably choose small numbers for their own groups


class Ruleset:
    """The ruleset of one namespace, and its tracked connections.

    Args:
        links: the namespace's interfaces.
        lock: held while it is changed.

    Attributes:
        has_user_text: whether a user has applied nft text.
        generation: the last known count of transactions, which the kernel starts at 1.
    """

    def __init__(self, links: Links, lock: threading.RLock) -> None:
        self.has_user_text = False
        self._links = links
        self._lock = lock
        self._open_nft: Nft | None = None
        self._open_netlink: NetlinkSocket | None = None
        self._close_later: list[Callable[[], None]] = []
        self._log_groups = itertools.count(_FIRST_LOG_GROUP)
        self.generation = 1

    # -- changes --------------------------------------------------------------------------------------

    def apply(self, text: str, *, apart: bool = False) -> None:
        """Apply nft text of our own.

        Args:
            text: nft(8) text.
            apart: in a separate process, as it is so complex that some version of libnftables may crash on it.
        """
        if apart:
            command.apply(self._links.network, text)
        else:
            self.nft.apply(text)
        self.count_change()

    def count_change(self) -> None:
        """Count a transaction of our own: if the kernel has counted more, something else has changed the ruleset too."""
        self.generation += 1

    def read_generation(self) -> int:
        """The kernel's count of transactions."""
        return nfrules.generation(self.netlink)

    def apply_user_text(self, text: str, *, forget_connections: bool = True) -> str:
        """Apply a user's nft text; returns nft's output.

        Args:
            text: nft(8) text.
            forget_connections: if it changes NAT rules, apply them to existing connections too, except for established
                TCP connections.
        """
        self.has_user_text = True
        if not forget_connections or not tracking.are_any(self.netlink):
            return command.apply(self._links.network, text)
        before = nftranslations.read(self.netlink)
        output = command.apply(self._links.network, text)
        if nftranslations.read(self.netlink) != before:
            tracking.forget_if(self.netlink)
        return output

    # -- reading --------------------------------------------------------------------------------------

    def text(self) -> str:
        """The whole ruleset, as nft lists it."""
        return self.nft.apply("list ruleset")

    def has_ever_had_rules(self) -> bool:
        """Whether the namespace has ever had any nft rules."""
        try:
            return nfrules.has_rules(self.netlink)
        except KernelError:  # a kernel without nftables
            return False

    # -- tracked connections --------------------------------------------------------------------------

    def tracked_connections(self) -> list[TrackedConnection]:
        """The connections tracked now."""
        return conntrack.tracked(self.netlink)

    def forget_connections(self, effects: Sequence[Effect]) -> None:
        """Forget the connections that rules with these effects would translate differently."""
        tracking.forget(self.netlink, effects, lambda: {address.ip for _, address in self._links.addresses()})

    # -- sockets --------------------------------------------------------------------------------------

    @property
    def nft(self) -> Nft:
        """libnftables for this namespace; raises an error if this machine lacks it."""
        with self._lock:
            if self._open_nft is None:
                self._open_nft = Nft(self._links.network)
            return self._open_nft

    @property
    def netlink(self) -> NetlinkSocket:
        """A netfilter socket of the namespace."""
        with self._lock:
            network = self._links.network  # raises an error if the lab is closed
            if self._open_netlink is None:
                self._open_netlink = network.open_netlink(NETLINK_NETFILTER)
            return self._open_netlink

    def open_netlink(self) -> NetlinkSocket:
        """Another netfilter socket of the namespace; the caller closes it."""
        return self._links.network.open_netlink(NETLINK_NETFILTER)

    def next_log_group(self) -> int:
        """A log group that none of our rules uses."""
        return next(self._log_groups)

    def close_later(self, close: Callable[[], None]) -> None:
        """Register a function to call when this is closed."""
        self._close_later.append(close)

    def close(self) -> None:
        """Close the sockets in the namespace; idempotent."""
        with self._lock:
            if self._open_nft is not None:
                self._open_nft.close()
            if self._open_netlink is not None:
                self._open_netlink.close()
            self._open_nft = self._open_netlink = None
            for close in self._close_later:
                close()
            self._close_later.clear()

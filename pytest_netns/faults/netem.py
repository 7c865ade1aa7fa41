"""The engine for kernels with netem: a netem qdisc below tbf on each impaired interface."""

from __future__ import annotations

import contextlib

from pytest_netns.errors import KernelError, NetnsError
from pytest_netns.faults.impair import Target, number
from pytest_netns.kernel.netlink import rtlinks, rtqueues
from pytest_netns.parts.impairment import Impairment
from pytest_netns.parts.queues import netem, tbf

# Handles of the two qdiscs. Not 1:, which is commonly used.
_OUTER, _INNER = 0x6E740000, 0x6E750000


class Netem:
    """Replaces an interface's queueing disciplines by tbf and netem; afterwards it has the default one."""

    name = "netem"

    def apply(self, target: Target, impairment: Impairment, seed: str) -> None:
        """See `Engine`.

        Raises:
            KernelError: ENOENT if the kernel has no netem or no tbf.
        """
        link = target.network.netlink.get(rtlinks.get_link(target.index, target.name), rtlinks.parse_link)
        outer = rtqueues.replace_queue(target.index, target.name, tbf.KIND, _OUTER, tbf.options(impairment, link.mtu))
        options = netem.options(impairment, number(seed))
        inner = rtqueues.replace_queue(target.index, target.name, netem.KIND, _INNER, options, parent=_OUTER | 1)
        try:
            target.network.netlink.request(outer, inner)
        except KernelError:
            self.remove(target)
            raise

    def remove(self, target: Target) -> None:
        """See `Engine`."""
        with contextlib.suppress(NetnsError):  # there was none, or the interface or the namespace is gone
            target.network.opened().netlink.request(rtqueues.delete_queue(target.index, target.name, _OUTER))

    def problem(self) -> str:
        """See `Engine`."""
        return ""

    def close(self) -> None:
        """See `Engine`: the qdiscs end with the namespaces."""

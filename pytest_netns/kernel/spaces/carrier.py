"""An interface that has just got a carrier is usable at once.

The kernel makes a new carrier take effect from a work queue, for many events once a second only: until then everything
the interface sends is dropped. Asking for its state by ethtool has that work done first (ethtool_op_get_link in
net/ethtool/ioctl.c of Linux).
"""

from __future__ import annotations

import array
import contextlib
import struct

from pytest_netns.kernel.netlink.socket import NetlinkSocket

_SIOCETHTOOL = 0x8946
_ETHTOOL_GLINK = 0x0A


def settle(netlink: NetlinkSocket, name: str) -> None:
    """Have an interface's carrier take effect now; nothing where it is gone or the kernel cannot tell."""
    import fcntl  # Windows has none, and suites import Lab there all the same

    value = array.array("I", [_ETHTOOL_GLINK, 0])
    request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])  # struct ifreq, netdevice(7)
    with contextlib.suppress(OSError):
        fcntl.ioctl(netlink.fileno(), _SIOCETHTOOL, request)

"""Make an interface that has just got a carrier usable at once.

The kernel processes a carrier change in a work queue, only once a second if there are many: until then everything
the interface sends is dropped. Querying the link state by ethtool runs that work first (ethtool_op_get_link in
net/ethtool/ioctl.c of Linux).
"""

from __future__ import annotations

import array
import struct

from pytest_netns.kernel.netlink.socket import NetlinkSocket

_SIOCETHTOOL = 0x8946
_ETHTOOL_GLINK = 0x0A


def settle(netlink: NetlinkSocket, name: str) -> None:
    """Apply an interface's carrier change now; does nothing if the interface is gone or ethtool is not supported."""
    import fcntl  # missing on Windows, on which suites import Lab too

    value = array.array("I", [_ETHTOOL_GLINK, 0])
    request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])  # struct ifreq, netdevice(7)
    try:
        fcntl.ioctl(netlink.fileno(), _SIOCETHTOOL, request)
    except OSError:
        return

"""Offload features of an interface: checksums, and segmentation of large packets; ethtool(8)."""

from __future__ import annotations

import array
import errno
import struct

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink.socket import NetlinkSocket

_SIOCETHTOOL = 0x8946
# ETHTOOL_STXCSUM, _STSO, _SGSO, _SGRO of linux/ethtool.h: ethtool -K IF tx off tso off gso off gro off
_SETTINGS = (0x17, 0x1F, 0x24, 0x2C)


def disable(netlink: NetlinkSocket, name: str) -> None:
    """Have an interface send packets as on a real wire: with checksums, none larger than the MTU."""
    import fcntl  # missing on Windows, on which suites import Lab too

    for setting in _SETTINGS:
        value = array.array("I", [setting, 0])
        request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])  # struct ifreq, netdevice(7)
        try:
            fcntl.ioctl(netlink.fileno(), _SIOCETHTOOL, request)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise KernelError(
                    f"disable offload of {name}", error.errno or errno.EIO, namespace=netlink.namespace
                ) from error

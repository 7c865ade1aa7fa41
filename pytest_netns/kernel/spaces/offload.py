"""What an interface leaves to hardware it does not have: checksums, and segmentation of large packets; ethtool(8)."""

from __future__ import annotations

import array
import errno
import struct

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink.socket import NetlinkSocket

_SIOCETHTOOL = 0x8946
# ETHTOOL_STXCSUM, _STSO, _SGSO, _SGRO of linux/ethtool.h: ethtool -K IF tx off tso off gso off gro off
_SETTINGS = (0x17, 0x1F, 0x24, 0x2C)


def switch_off(netlink: NetlinkSocket, name: str) -> None:
    """Have an interface send packets as they would be on a wire: with checksums, none larger than the MTU."""
    import fcntl  # Windows has none, and suites import Lab there all the same

    for setting in _SETTINGS:
        value = array.array("I", [setting, 0])
        request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])  # struct ifreq, netdevice(7)
        try:
            fcntl.ioctl(netlink.fileno(), _SIOCETHTOOL, request)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise KernelError(
                    f"switch off offload of {name}", error.errno or errno.EIO, namespace=netlink.namespace
                ) from error

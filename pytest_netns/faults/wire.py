"""The engine for kernels without netem: a helper process forwards the frames of impaired links.

The frames that an impaired interface is about to send are redirected to one end of a hidden veth pair, whose other end is in
the helper's namespace.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import socket
import struct
from typing import Any

from pytest_netns.errors import KernelError, NetnsError, UnavailableError
from pytest_netns.faults.impair import Target, values_of
from pytest_netns.kernel.netlink import redirect, rtlinks, wire
from pytest_netns.kernel.netlink.wire import NLM_F_ACK
from pytest_netns.kernel.programs import wirehelper
from pytest_netns.kernel.programs.wirehelper import Helper
from pytest_netns.kernel.spaces import carrier
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import sockets
from pytest_netns.parts.impairment import TABLE, Impairment

_FIRST_INDEX = 1 << 20  # of the hidden interfaces, far from those of other interfaces
_SMALL_MTU = 68  # too small for IPv6: a hidden interface gets no address, and sends nothing by itself
_LARGE_MTU = 65535
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
_FEATURE = "impaired links"
_REMEDY = (
    "a kernel with netem: sudo modprobe -a sch_netem sch_tbf; or Linux 5.18 and newer with nf_tables, "
    "NETFILTER_EGRESS and NFT_FWD_NETDEV"
)
_NOT_SUPPORTED = (errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


class UserWire:
    """The impairments of one lab that the helper carries out."""

    name = "user-space wire"

    def __init__(self) -> None:
        self._helper: Helper | None = None
        self._numbers: dict[Target, int] = {}
        self._requested: dict[Target, dict[str, Any]] = {}

    def apply(self, target: Target, impairment: Impairment, seed: str) -> None:
        """See `Engine`."""
        requested: dict[str, Any] = {"values": values_of(impairment), "seed": seed}
        helper = wirehelper.helper()
        if helper is not self._helper:  # the first one, or the replacement of one that was killed
            self._helper, self._numbers = helper, {}
            for other, each in self._requested.items():
                if other != target:
                    self._numbers[other] = _add_direction(helper, other, each)
        if target in self._numbers:
            helper.request("change", id=self._numbers[target], **requested)
        else:
            self._numbers[target] = _add_direction(helper, target, requested)
        self._requested[target] = requested

    def remove(self, target: Target) -> None:
        """See `Engine`."""
        self._requested.pop(target, None)
        number = self._numbers.pop(target, None)
        if number is not None and self._helper is not None:
            _remove_direction(self._helper, target, number)

    def problem(self) -> str:
        """See `Engine`."""
        return "" if self._helper is None else self._helper.problem()

    def close(self) -> None:
        """See `Engine`: the rules end with the namespaces, or when the helper closes its descriptors."""
        for _ in range(2):  # a request that the kernel refused is sent again, else the helper would hold the namespaces
            if self._helper is None or not self._numbers or self._helper.problem():
                break
            with contextlib.suppress(NetnsError):
                self._helper.request("drop", ids=list(self._numbers.values()))
                break
        self._helper, self._numbers, self._requested = None, {}, {}


def _name(index: int) -> str:
    return f"{rtlinks.HIDDEN}{index - _FIRST_INDEX}"


def _table(target: Target) -> str:
    return f"{TABLE}-{target.index}"


def _check_ethernet(target: Target) -> None:
    """Refuse an interface whose frames have no Ethernet header."""
    info = target.network.netlink.get(rtlinks.get_link(target.index, target.name), rtlinks.parse_link)
    if len(info.mac) != len("00:00:00:00:00:00"):
        cause = f"{target.name} in namespace {target.network.name!r} has no Ethernet frames, which the user-space wire needs"
        raise UnavailableError(_FEATURE, cause, "a kernel with netem: sudo modprobe -a sch_netem sch_tbf")


def _add_pair(network: NetworkNamespace, helper_network: NetworkNamespace, index: int) -> None:
    """A hidden veth pair from an interface's namespace to the helper's. Only packets after segmentation cross it."""
    name = _name(index)
    pair = rtlinks.add_veth(name, index, name, index, helper_network.fd, mtu=_SMALL_MTU, peer_mtu=_LARGE_MTU)
    network.netlink.request(pair, rtlinks.disable_segmentation(index, name))
    helper_network.netlink.request(rtlinks.set_link(index, name, up=True))
    # Checksums are complete when a frame arrives, so that a flipped bit is detected.
    value = array.array("I", [_ETHTOOL_STXCSUM, 0])
    request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])  # struct ifreq, netdevice(7)
    fcntl.ioctl(network.netlink.fileno(), _SIOCETHTOOL, request)
    for each in (network, helper_network):
        carrier.settle(each.netlink, name)


def _add_direction(helper: Helper, target: Target, requested: dict[str, Any]) -> int:
    """Have the helper forward what an interface sends; returns the number of this direction."""
    _check_ethernet(target)
    index = _FIRST_INDEX + helper.next_number()
    try:
        _add_pair(target.network, helper.network, index)
        with contextlib.ExitStack() as stack:
            with target.network.entered():
                send = stack.enter_context(_sending_socket(target.name, index))
                owner = stack.enter_context(redirect.open_owner())
            helper.request("add", [send.fileno(), owner.fileno()], id=index, **requested)
            # From here on frames go to the helper, which is ready and keeps the rule alive.
            redirect.add_redirect(owner, _table(target), target.name, index, target.network.name)
    except BaseException as failure:
        with contextlib.suppress(NetnsError):
            _remove_direction(helper, target, index)
        if isinstance(failure, OSError) and failure.errno in _NOT_SUPPORTED:
            message = getattr(failure, "kernel_message", "") or failure.strerror
            cause = f"frames cannot be redirected to the user-space wire: {message}"
            raise UnavailableError(_FEATURE, cause, _REMEDY) from failure
        raise
    return index


def _remove_direction(helper: Helper, target: Target, index: int) -> None:
    """Stop redirecting an interface's frames."""
    delete = rtlinks.delete_link(index, _name(index))
    try:
        pair = wire.message(delete.type, NLM_F_ACK, 0, delete.body)
        helper.request("remove", id=index, rule=redirect.removal_message(_table(target)).hex(), pair=pair.hex())
    except NetnsError:  # it has died, or does not know the direction: there is no rule
        with contextlib.suppress(KernelError):
            helper.network.netlink.request(delete)


def _sending_socket(name: str, index: int) -> socket.socket:
    """A packet socket that sends by an interface of the thread's namespace and bypasses the rule; it receives nothing."""
    opened = sockets.Socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        opened.bind((name, 0))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, redirect.bypass_priority(index) - (1 << 32))
    except BaseException:
        opened.close()
        raise
    return opened

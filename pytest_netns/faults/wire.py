"""The engine for kernels without netem: a helper process passes the frames of impaired links on.

The helper runs in a namespace of its own under the supervisor, so it ends with this process in whatever way. Of each
impaired interface the frames it is about to send are led to one end of a hidden veth pair, whose other end is there.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any

from pytest_netns.errors import KernelError, NetnsError, UnavailableError
from pytest_netns.faults.impair import Target, values_of
from pytest_netns.kernel.netlink import redirect, rtlinks, wire
from pytest_netns.kernel.netlink.wire import NLM_F_ACK
from pytest_netns.kernel.programs import ring, userwire
from pytest_netns.kernel.programs.view import View
from pytest_netns.kernel.spaces import carrier, destruction
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import sockets
from pytest_netns.parts.impairment import TABLE, Impairment

_FIRST_INDEX = 1 << 20  # of the hidden interfaces, far from those of others
_SMALL_MTU = 68  # a hidden interface gets no IPv6 address, and sends nothing by itself
_LARGE_MTU = 65535
_TIMEOUT = 20.0  # seconds; it takes a millisecond, a loaded machine may take long
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
_ETH_P_ALL = 3
_FEATURE = "impaired links"
_REMEDY = (
    "a kernel with netem: sudo modprobe -a sch_netem sch_tbf; or Linux 5.18 and newer with nf_tables, "
    "NETFILTER_EGRESS and NFT_FWD_NETDEV"
)
_NOT_SUPPORTED = (errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


class UserWire:
    """A helper process and what it impairs.

    Args:
        owner: who the lab belongs to.
    """

    name = "user-space wire"

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._helper: _Helper | None = None
        self._numbers: dict[Target, int] = {}
        self._asked: dict[Target, dict[str, Any]] = {}
        self._next = 0

    def apply(self, target: Target, impairment: Impairment, seed: str) -> None:
        """See `Engine`."""
        asked: dict[str, Any] = {"values": values_of(impairment), "seed": seed}
        if self._helper is not None and self._helper.problem():
            self._start_again()
        if self._helper is None:
            self._helper = _Helper(self._owner)
        if target in self._numbers:
            self._helper.request("change", self._numbers[target], **asked)
        else:
            self._add(self._helper, target, asked)
        self._asked[target] = asked

    def remove(self, target: Target) -> None:
        """See `Engine`."""
        self._asked.pop(target, None)
        number = self._numbers.pop(target, None)
        if number is not None and self._helper is not None:
            _take_out(self._helper, target, number)

    def _add(self, helper: _Helper, target: Target, asked: dict[str, Any]) -> None:
        number = self._next
        self._next += 1
        _put_in(helper, target, number, asked)
        self._numbers[target] = number

    def _start_again(self) -> None:
        """The helper was killed: another one takes over."""
        asked = self._asked
        self.close()
        self._helper = _Helper(self._owner)
        for target, each in asked.items():
            self._add(self._helper, target, each)
        self._asked = asked

    def problem(self) -> str:
        """See `Engine`."""
        return "" if self._helper is None else self._helper.problem()

    def close(self) -> None:
        """See `Engine`."""
        helper, self._helper = self._helper, None
        self._numbers, self._asked = {}, {}
        if helper is not None:
            helper.close()


class _Helper:
    """The helper process, and the namespace it is in.

    Attributes:
        network: the namespace.
    """

    def __init__(self, owner: str) -> None:
        self._lock = threading.Lock()
        self._sequence = 0
        self.network = NetworkNamespace.create("wire", _disable_ipv6)
        with contextlib.ExitStack() as stack:
            stack.callback(self.network.close)
            self._watched = destruction.hub().watch(self.network, owner)
            self._view = View(self.network)
            stack.callback(self._view.discard)
            with self.network.entered():  # unix sockets belong to a namespace: to the one that ends with the helper
                self._control, theirs = sockets.pair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(self._control.close)
            with theirs:
                self._process = self._view.run(lambda: _start(theirs.fileno()))
            self._control.settimeout(_TIMEOUT)
            stack.pop_all()

    def request(self, do: str, number: int, descriptors: list[int] | None = None, **more: Any) -> None:
        """Have something done, and wait until it is.

        Raises:
            NetnsError: it could not be done, or the helper has died.
        """
        with self._lock:
            self._sequence += 1
            message = json.dumps({"n": self._sequence, "do": do, "id": number, **more}).encode()
            try:
                socket.send_fds(self._control, [message], descriptors or [])
                # What answers an earlier question, whose asker was interrupted, is not for us.
                while (answer := self._receive())["n"] != self._sequence:
                    pass
            except OSError as error:
                raise self._dead() from error
        if "error" in answer:
            raise NetnsError(f"cannot impair link: the user-space wire says: {answer['error']}")

    def problem(self) -> str:
        """How the helper has died; empty where it runs."""
        status = self._process.poll()
        return "" if status is None else f"the user-space wire (PID {self._process.pid}) has died, status {status}"

    def close(self) -> None:
        """End it."""
        self._watched.closed = time.monotonic()
        self._control.close()
        try:
            self._view.close()
            self._process.kill()
            self._process.wait()
            self._view.wait_ended(wait=True)
        finally:
            if self._process.stderr is not None:
                self._process.stderr.close()
            self.network.close()

    def _receive(self) -> dict[str, Any]:
        data = self._control.recv(userwire.MAX_MESSAGE)
        if not data:
            raise ConnectionResetError
        answer: dict[str, Any] = json.loads(data)
        return answer

    def _dead(self) -> NetnsError:
        words = b""
        assert self._process.stderr is not None
        while select.select([self._process.stderr], [], [], 0)[0] and (
            chunk := os.read(self._process.stderr.fileno(), 4096)
        ):
            words += chunk
        reason = self.problem() or "the user-space wire does not answer"
        said = "".join(words.decode(errors="replace").strip().splitlines()[-1:])
        return NetnsError(f"cannot impair link: {reason}{f': {said}' if said else ''}; links are perfect again")


def _start(control: int) -> subprocess.Popen[bytes]:
    """Start the helper; to be called on the thread that starts programs in its namespace."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", userwire.__file__, str(control)],
        pass_fds=[control],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        env={},
        start_new_session=True,
    )


def _disable_ipv6(network: NetworkNamespace) -> None:
    """Nothing but what is led there crosses the hidden interfaces; the calling thread is inside."""
    with contextlib.suppress(OSError):  # no IPv6, or settings cannot be written: it would send a little of its own
        network.write_sysctl("ipv6/conf/default/disable_ipv6", "1")


def _name(number: int) -> str:
    return f"{rtlinks.HIDDEN}{number}"


def _table(target: Target) -> str:
    return f"{TABLE}-{target.index}"


def _mtu_of(target: Target) -> int:
    """The MTU of an interface, which has to be an Ethernet one."""
    info = target.network.netlink.get(rtlinks.get_link(target.index, target.name), rtlinks.parse_link)
    if len(info.mac) != len("00:00:00:00:00:00"):
        cause = f"{target.name} in namespace {target.network.name!r} has no Ethernet frames, which the user-space wire needs"
        raise UnavailableError(_FEATURE, cause, "a kernel with netem: sudo modprobe -a sch_netem sch_tbf")
    return info.mtu


def _add_pair(network: NetworkNamespace, there: NetworkNamespace, number: int) -> None:
    """A hidden veth pair from an interface's namespace to the helper's. Whole packets cross it, none before segmentation."""
    index, name = _FIRST_INDEX + number, _name(number)
    pair = rtlinks.add_veth(name, index, name, index, there.fd, mtu=_SMALL_MTU, peer_mtu=_LARGE_MTU)
    network.netlink.request(pair, rtlinks.without_segmentation(index, name))
    there.netlink.request(rtlinks.set_link(index, name, up=True))
    # Checksums are complete when a frame gets there, so that a wrong bit is found.
    value = array.array("I", [_ETHTOOL_STXCSUM, 0])
    request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])  # struct ifreq, netdevice(7)
    fcntl.ioctl(network.netlink.fileno(), _SIOCETHTOOL, request)
    for each in (network, there):
        carrier.settle(each.netlink, name)


def _put_in(helper: _Helper, target: Target, number: int, asked: dict[str, Any]) -> None:
    """Have the helper pass on what an interface sends."""
    mtu = _mtu_of(target)
    try:
        _add_pair(target.network, helper.network, number)
        with contextlib.ExitStack() as stack:
            with helper.network.entered():
                receive = stack.enter_context(_packet_socket(_name(number), mtu))
            with target.network.entered():
                send = stack.enter_context(_packet_socket(target.name))
                owner = stack.enter_context(redirect.open_owner())
            send.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, redirect.PASS_PRIORITY - (1 << 32))
            descriptors = [receive.fileno(), send.fileno(), owner.fileno()]
            helper.request("add", number, descriptors, mtu=mtu, **asked)
            # From here on frames go to the helper, which is ready for them, and keeps the rule alive.
            redirect.lead_away(owner, _table(target), target.name, _FIRST_INDEX + number, target.network.name)
    except BaseException as failure:
        with contextlib.suppress(NetnsError):
            _take_out(helper, target, number)
        if isinstance(failure, OSError) and failure.errno in _NOT_SUPPORTED:
            words = getattr(failure, "kernel_message", "") or failure.strerror
            cause = f"frames cannot be led to the user-space wire: {words}"
            raise UnavailableError(_FEATURE, cause, _REMEDY) from failure
        raise


def _take_out(helper: _Helper, target: Target, number: int) -> None:
    """Have frames go the straight way again."""
    delete = rtlinks.delete_link(_FIRST_INDEX + number, _name(number))
    try:
        pair = wire.message(delete.type, NLM_F_ACK, 0, delete.body)
        helper.request("remove", number, rule=redirect.no_longer(_table(target)).hex(), pair=pair.hex())
    except NetnsError:  # it has died, or has never heard of it: there is no rule
        with contextlib.suppress(KernelError):
            helper.network.netlink.request(delete)


def _packet_socket(name: str, receive_mtu: int = 0) -> socket.socket:
    """A packet socket bound to an interface of the namespace the thread is in; without an MTU it receives nothing."""
    opened = sockets.Socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        if receive_mtu:
            ring.prepare(opened, receive_mtu)
        opened.bind((name, _ETH_P_ALL if receive_mtu else 0))
    except BaseException:
        opened.close()
        raise
    return opened

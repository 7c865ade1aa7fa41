"""Redirect the frames that an interface is about to send to another interface: a rule at nftables' egress hook, Linux 5.18.

The table has an owner (NFT_TABLE_F_OWNER): the netlink socket that made it. No other program can change it, "nft flush
ruleset" skips it, and the kernel removes it when the last descriptor of that socket is closed.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink import wire
from pytest_netns.kernel.netlink.socket import NETLINK_NETFILTER
from pytest_netns.kernel.netlink.wire import NLM_F_ACK, NLM_F_CREATE, attribute, nested, text
from pytest_netns.kernel.system import sockets

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11  # linux/netfilter/nfnetlink.h
_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE = _SUBSYSTEM, _SUBSYSTEM | 2, _SUBSYSTEM | 3, _SUBSYSTEM | 6
_FAMILY, _EGRESS, _ACCEPT, _OWNER = 5, 1, 1, 2  # NFPROTO_NETDEV, NF_NETDEV_EGRESS, NF_ACCEPT, NFT_TABLE_F_OWNER
_APPEND = 0x800  # NLM_F_APPEND
_REGISTER = 1
_RECEIVE_SIZE = 1 << 15


def bypass_priority(target: int) -> int:
    """The priority of frames that bypass the redirection. Each rule has its own, since a frame may pass several on its way out.

    Its major number ffff matches no classful queueing discipline, and the kernel resets a packet's
    priority on its way over a veth pair.
    """
    return 0xFFFF0000 | target & 0xFFFF


def add_redirect(owner: socket.socket, table: str, interface: str, target: int, namespace: str) -> None:
    """Redirect all frames that an interface is about to send, except those with `bypass_priority`, to another interface.

    Args:
        owner: a netlink socket of nftables in the interface's namespace, used for nothing else.
        table: the name of the nft table to make.
        interface: its name.
        target: index of the interface the frames go to, in the same namespace.
        namespace: its name, for errors.

    Raises:
        KernelError: the kernel refused: EOPNOTSUPP or ENOENT if it lacks the egress hook or fwd.
    """
    parts = [
        wire.message(kind, flags, number, body)
        for number, (kind, flags, body) in enumerate(_batch(table, interface, target))
    ]
    try:
        owner.send(b"".join(parts))
        pending = {1, 2, 3, 4}  # sequence numbers
        while pending:
            for reply in wire.messages(owner.recv(_RECEIVE_SIZE)):
                code, message = wire.read_error(reply.body, reply.flags)
                if code:
                    raise KernelError(f"redirect {interface}", code, namespace=namespace, kernel_message=message)
                pending.discard(reply.sequence)
    except OSError as error:
        if isinstance(error, KernelError):
            raise
        raise KernelError(f"redirect {interface}", error.errno or 0, namespace=namespace) from error


def removal_message(table: str) -> bytes:
    """The message by which the owner ends the redirection; the kernel acknowledges it."""
    batch = struct.pack("!BBH", 0, 0, _SUBSYSTEM >> 8)
    delete = struct.pack("!BBH", _FAMILY, 0, 0) + text(1, table)
    parts = [(_BATCH_BEGIN, 0, batch), (_DELETE_TABLE, NLM_F_ACK, delete), (_BATCH_END, 0, batch)]
    return b"".join(wire.message(kind, flags, 0, body) for kind, flags, body in parts)


def open_owner() -> socket.socket:
    """Open a netlink socket for `add_redirect`, in the namespace the calling thread is in."""
    return sockets.Socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)


def _batch(table: str, interface: str, target: int) -> Iterator[tuple[int, int, bytes]]:
    """The messages of one transaction: type, flags, body."""
    header = struct.pack("!BBH", _FAMILY, 0, 0)
    batch = struct.pack("!BBH", 0, 0, _SUBSYSTEM >> 8)
    flags = NLM_F_CREATE | NLM_F_ACK
    hook = nested(4, _be32(1, _EGRESS), _be32(2, 0), text(3, interface))  # NFTA_CHAIN_HOOK: hook, priority, device
    chain = text(1, table) + text(3, "egress") + hook + text(7, "filter")
    yield _BATCH_BEGIN, 0, batch
    yield _NEW_TABLE, flags, header + text(1, table) + _be32(2, _OWNER)
    yield _NEW_CHAIN, flags, header + chain
    for rule in (
        # meta priority PRIORITY accept
        [
            _expression("meta", _be32(1, _REGISTER), _be32(2, 2)),
            _expression(
                "cmp",
                _be32(1, _REGISTER),
                _be32(2, 0),
                nested(3, attribute(1, struct.pack("=I", bypass_priority(target)))),
            ),
            _expression("immediate", _be32(1, 0), nested(2, nested(2, _be32(1, _ACCEPT)))),
        ],
        # fwd to TARGET
        [
            _expression("immediate", _be32(1, _REGISTER), nested(2, attribute(1, struct.pack("=I", target)))),
            _expression("fwd", _be32(1, _REGISTER)),
        ],
    ):
        yield _NEW_RULE, flags | _APPEND, header + text(1, table) + text(2, "egress") + nested(4, *rule)
    yield _BATCH_END, 0, batch


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *attributes))


def _be32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value))

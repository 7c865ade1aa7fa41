"""Redirect the frames that an interface is about to send to another interface: a rule at nftables' egress hook, Linux 5.18.

The table has an owner (NFT_TABLE_F_OWNER): the netlink socket that made it. No other program can change it, "nft flush
ruleset" skips it, and the kernel removes it when the last descriptor of that socket is closed.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink import nfnetlink, wire
from pytest_netns.kernel.netlink.nfnetlink import be32, expression
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NETLINK_NETFILTER
from pytest_netns.kernel.netlink.wire import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, attribute, nested, text
from pytest_netns.kernel.system import sockets

_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE = map(nfnetlink.nf_tables, (0, 2, 3, 6))
_EGRESS, _ACCEPT, _OWNER = 1, 1, 2  # NF_NETDEV_EGRESS, NF_ACCEPT, NFT_TABLE_F_OWNER
_HEADER = nfnetlink.header(nfnetlink.NFPROTO_NETDEV)
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
        wire.message(each.type, each.flags, number, each.body)
        for number, each in enumerate(_batch(table, interface, target))
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
    delete = Request(("end a redirection",), _DELETE_TABLE, _HEADER + text(1, table), NLM_F_ACK)
    parts = (nfnetlink.BEGIN, delete, nfnetlink.END)
    return b"".join(wire.message(each.type, each.flags, 0, each.body) for each in parts)


def open_owner() -> socket.socket:
    """Open a netlink socket for `add_redirect`, in the namespace the calling thread is in."""
    return sockets.Socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)


def _batch(table: str, interface: str, target: int) -> Iterator[Request]:
    """The messages of one transaction."""
    what = ("redirect", interface)
    flags = NLM_F_CREATE | NLM_F_ACK
    hook = nested(4, be32(1, _EGRESS), be32(2, 0), text(3, interface))  # NFTA_CHAIN_HOOK: hook, priority, device
    chain = text(1, table) + text(3, "egress") + hook + text(7, "filter")
    yield nfnetlink.BEGIN
    yield Request(what, _NEW_TABLE, _HEADER + text(1, table) + be32(2, _OWNER), flags)
    yield Request(what, _NEW_CHAIN, _HEADER + chain, flags)
    for rule in (
        # meta priority PRIORITY accept
        [
            expression("meta", be32(1, _REGISTER), be32(2, 2)),
            expression(
                "cmp",
                be32(1, _REGISTER),
                be32(2, 0),
                nested(3, attribute(1, struct.pack("=I", bypass_priority(target)))),
            ),
            expression("immediate", be32(1, 0), nested(2, nested(2, be32(1, _ACCEPT)))),
        ],
        # fwd to TARGET
        [
            expression("immediate", be32(1, _REGISTER), nested(2, attribute(1, struct.pack("=I", target)))),
            expression("fwd", be32(1, _REGISTER)),
        ],
    ):
        body = _HEADER + text(1, table) + text(2, "egress") + nested(4, *rule)
        yield Request(what, _NEW_RULE, body, flags | NLM_F_APPEND)
    yield nfnetlink.END

"""Add plain masquerades and port forwards by nf_tables messages; nft would read the whole ruleset before each one.

Encodes only the expressions of those rules; everything else goes through nft, which lists these rules like its own.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence

from pytest_netns.kernel.netlink import nfnetlink, wire
from pytest_netns.kernel.netlink.nfnetlink import be32, expression
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.values import IPAddress, IPNetwork

_NFT_MSG_NEWTABLE, _NFT_MSG_NEWCHAIN, _NFT_MSG_NEWRULE = 0, 3, 6
_NFPROTO = {4: 2, 6: 10}
_IPPROTO = {"tcp": 6, "udp": 17}
# linux/netfilter/nf_tables.h
_TABLE, _CHAIN, _EXPRESSIONS, _USERDATA = 1, 2, 4, 7
_DATA_VALUE, _DATA_VERDICT = 1, 2
_META_OIFNAME, _META_NFPROTO, _META_L4PROTO = 7, 15, 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_EQUAL, _NOT_EQUAL, _AT_MOST, _AT_LEAST = 0, 1, 3, 5
_CT_DIRECTION, _CT_STATUS, _CT_PROTO_DST = 1, 2, 12
_CT_ADDRESSES = {("saddr", 4): 19, ("daddr", 4): 20, ("saddr", 6): 21, ("daddr", 6): 22}
_OFFSETS = {("saddr", 4): 12, ("daddr", 4): 16, ("saddr", 6): 8, ("daddr", 6): 24}
_IPS_SRC_NAT, _IPS_DST_NAT = 1 << 4, 1 << 5
_POSTROUTING, _ACCEPT = 4, 1  # linux/netfilter.h
_JUMP, _VERDICT_REGISTER = 2**32 - 3, 0
_NAME_SIZE = 16  # IFNAMSIZ
_DNAT = 1
_PORT_OFFSET = 2  # of the destination port, in the headers of TCP and UDP
_R1, _R2 = 1, 2
_COUNTER = expression("counter", wire.attribute(1, bytes(8)), wire.attribute(2, bytes(8)))


def dnat(
    version: int,
    protocol: str,
    ports: tuple[int, int],
    limits: tuple[tuple[str, IPNetwork], ...],
    target: tuple[IPAddress, int | None],
) -> bytes:
    """Encode the expressions of a DNAT rule.

    Args:
        version: the IP version.
        protocol: ``"tcp"`` or ``"udp"``.
        ports: the first and the last port.
        limits: ``"saddr"`` or ``"daddr"``, each with the network the address must be in.
        target: the new destination address and port; port None keeps the port.
    """
    address, port = target
    parts = [_family(version), _protocol(protocol), _payload(_TRANSPORT_HEADER, _PORT_OFFSET, 2), _ports(*ports)]
    for side, network in limits:
        parts += [_payload(_NETWORK_HEADER, _OFFSETS[side, version], len(address.packed)), *_in_network(network)]
    parts.append(_immediate(_R1, address.packed))
    nat = [be32(1, _DNAT), be32(2, _NFPROTO[version]), be32(3, _R1)]
    if port is not None:
        parts.append(_immediate(_R2, port.to_bytes(2, "big")))
        nat.append(be32(5, _R2))
    parts.append(expression("nat", *nat))
    return b"".join(parts)


def count(version: int, protocol: str, ports: tuple[int, int], limits: tuple[tuple[str, IPNetwork], ...]) -> bytes:
    """Encode the expressions of a rule that counts packets translated by a rule of `dnat`, with the same arguments."""
    parts = [_family(version), _protocol(protocol), _ct(_CT_PROTO_DST, 0), _ports(*ports)]
    for side, network in limits:
        parts += [_ct(_CT_ADDRESSES[side, version], 0), *_in_network(network)]
    return b"".join([*parts, *_has_status(_IPS_DST_NAT), _COUNTER])


def masquerade(network: IPNetwork, out: str | None) -> bytes:
    """Encode the expressions of a masquerade.

    Args:
        network: the network that packets come from, and do not go to.
        out: the interface they leave by; None for any.
    """
    version, size = network.version, len(network.network_address.packed)
    parts = [_leaving_by(out), _family(version)]
    for side, operation in (("saddr", _EQUAL), ("daddr", _NOT_EQUAL)):
        parts.append(_payload(_NETWORK_HEADER, _OFFSETS[side, version], size))
        parts += _in_network(network, operation)
    return b"".join([*parts, expression("masq")])


def count_masqueraded(network: IPNetwork, out: str | None) -> bytes:
    """Encode the expressions of a rule that counts packets translated by a rule of `masquerade`, with the same arguments."""
    parts = [_leaving_by(out)]
    for side, operation in (("saddr", _EQUAL), ("daddr", _NOT_EQUAL)):
        parts += [_ct(_CT_ADDRESSES[side, network.version], 0), *_in_network(network, operation)]
    return b"".join([*parts, *_has_status(_IPS_SRC_NAT), _COUNTER])


def jump(chain: str, *, for_translated: bool = False) -> bytes:
    """Encode the expressions of a rule that jumps to a chain.

    Args:
        chain: the chain.
        for_translated: only for packets of translated connections, in their original direction.
    """
    verdict = wire.nested(_DATA_VERDICT, be32(1, _JUMP), wire.text(2, chain))
    parts = [expression("immediate", be32(1, _VERDICT_REGISTER), wire.nested(2, verdict))]
    if for_translated:
        original = [_ct(_CT_DIRECTION), _compare(_EQUAL, b"\0")]
        parts = [*original, *_has_status(_IPS_SRC_NAT | _IPS_DST_NAT), *parts]
    return b"".join(parts)


def add_table(table: str) -> Request:
    """The request that adds a table of the family inet."""
    body = nfnetlink.header(nfnetlink.NFPROTO_INET) + wire.text(1, table)
    return Request(("add nft table", table), nfnetlink.nf_tables(_NFT_MSG_NEWTABLE), body, wire.NLM_F_CREATE)


def add_chain(table: str, chain: str, type_: str = "", priority: int = 0) -> Request:
    """The request that adds a chain.

    Args:
        table: its table.
        chain: its name.
        type_, priority: ``"nat"`` or ``"filter"``, for a chain of the postrouting hook.
    """
    body = nfnetlink.header(nfnetlink.NFPROTO_INET) + wire.text(1, table) + wire.text(3, chain)
    if type_:
        body += wire.nested(4, be32(1, _POSTROUTING), be32(2, priority)) + be32(5, _ACCEPT) + wire.text(7, type_)
    return Request(("add nft chain", chain), nfnetlink.nf_tables(_NFT_MSG_NEWCHAIN), body, wire.NLM_F_CREATE)


def add_rule(table: str, chain: str, comment: str, expressions: bytes) -> Request:
    """The request that appends a rule to a chain."""
    flags = wire.NLM_F_CREATE | wire.NLM_F_APPEND
    body = _rule(table, chain, comment, expressions)
    return Request(("add nft rule", comment), nfnetlink.nf_tables(_NFT_MSG_NEWRULE), body, flags)


def apply(netlink: NetlinkSocket, requests: Sequence[Request]) -> None:
    """Apply requests in one transaction.

    Args:
        netlink: a netfilter socket of the namespace.
        requests: the requests.

    Raises:
        KernelError: the kernel refused; nothing was changed.
    """
    netlink.transaction(nfnetlink.BEGIN, requests, nfnetlink.END)


def _rule(table: str, chain: str, comment: str, expressions: bytes) -> bytes:
    return (
        nfnetlink.header(nfnetlink.NFPROTO_INET)
        + wire.text(_TABLE, table)
        + wire.text(_CHAIN, chain)
        + wire.nested(_EXPRESSIONS, expressions)
        + wire.attribute(_USERDATA, nfnetlink.comment(comment))
    )


@functools.cache
def _family(version: int) -> bytes:
    return expression("meta", be32(2, _META_NFPROTO), be32(1, _R1)) + _compare(_EQUAL, bytes([_NFPROTO[version]]))


@functools.cache
def _protocol(name: str) -> bytes:
    return expression("meta", be32(2, _META_L4PROTO), be32(1, _R1)) + _compare(_EQUAL, bytes([_IPPROTO[name]]))


def _ports(first: int, last: int) -> bytes:
    if first == last:
        return _compare(_EQUAL, first.to_bytes(2, "big"))
    return _compare(_AT_LEAST, first.to_bytes(2, "big")) + _compare(_AT_MOST, last.to_bytes(2, "big"))


def _in_network(network: IPNetwork, operation: int = _EQUAL) -> list[bytes]:
    wanted = network.network_address.packed
    if network.prefixlen == network.max_prefixlen:
        return [_compare(operation, wanted)]
    return [_masked(network.netmask.packed), _compare(operation, wanted)]


@functools.cache
def _has_status(bits: int) -> tuple[bytes, ...]:
    return _ct(_CT_STATUS), _masked(struct.pack("=I", bits)), _compare(_NOT_EQUAL, bytes(4))


def _leaving_by(interface: str | None) -> bytes:
    if interface is None:
        return b""
    name = interface.encode().ljust(_NAME_SIZE, b"\0")
    return expression("meta", be32(2, _META_OIFNAME), be32(1, _R1)) + _compare(_EQUAL, name)


@functools.cache
def _payload(base: int, offset: int, length: int) -> bytes:
    return expression("payload", be32(1, _R1), be32(2, base), be32(3, offset), be32(4, length))


@functools.cache
def _ct(key: int, direction: int | None = None) -> bytes:
    of = () if direction is None else (wire.attribute(3, bytes([direction])),)
    return expression("ct", be32(2, key), be32(1, _R1), *of)


def _masked(mask: bytes) -> bytes:
    return expression(
        "bitwise",
        be32(1, _R1),
        be32(2, _R1),
        be32(3, len(mask)),
        wire.nested(4, _value(mask)),
        wire.nested(5, _value(bytes(len(mask)))),
    )


def _compare(operation: int, value: bytes) -> bytes:
    return expression("cmp", be32(1, _R1), be32(2, operation), wire.nested(3, _value(value)))


def _immediate(register: int, value: bytes) -> bytes:
    return expression("immediate", be32(1, register), wire.nested(2, _value(value)))


def _value(data: bytes) -> bytes:
    return wire.attribute(_DATA_VALUE, data)

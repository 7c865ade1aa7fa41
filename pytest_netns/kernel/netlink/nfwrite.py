"""Add port forwards by nf_tables messages. The nft program would read the whole ruleset before each one.

Encodes only the expressions of a plain port forward; everything else goes through nft, which lists these rules like its own.
"""

from __future__ import annotations

import functools
import struct

from pytest_netns.kernel.netlink import nfnetlink, wire
from pytest_netns.kernel.netlink.nfnetlink import be32, expression
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.values import IPAddress, IPNetwork

_NFT_MSG_NEWRULE = 6
_NFPROTO = {4: 2, 6: 10}
_IPPROTO = {"tcp": 6, "udp": 17}
# linux/netfilter/nf_tables.h
_TABLE, _CHAIN, _EXPRESSIONS, _USERDATA = 1, 2, 4, 7
_DATA_VALUE = 1
_META_NFPROTO, _META_L4PROTO = 15, 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_EQUAL, _NOT_EQUAL, _AT_MOST, _AT_LEAST = 0, 1, 3, 5
_CT_STATUS, _CT_PROTO_DST = 2, 12
_CT_ADDRESSES = {("saddr", 4): 19, ("daddr", 4): 20, ("saddr", 6): 21, ("daddr", 6): 22}
_OFFSETS = {("saddr", 4): 12, ("daddr", 4): 16, ("saddr", 6): 8, ("daddr", 6): 24}
_IPS_DST_NAT = 1 << 5
_DNAT = 1
_PORT_OFFSET = 2  # of the destination port, in the headers of TCP and UDP
_R1, _R2 = 1, 2


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
    parts += _is_dnat()
    return b"".join(parts)


def add(netlink: NetlinkSocket, rules: list[tuple[str, str, str, bytes]]) -> None:
    """Append rules to chains of the family inet, in one transaction.

    Args:
        netlink: a netfilter socket of the namespace.
        rules: table, chain, comment, and expressions.

    Raises:
        KernelError: the kernel refused; nothing was changed.
    """
    kind = nfnetlink.nf_tables(_NFT_MSG_NEWRULE)
    requests = [
        Request(
            ("add nft rule", comment),
            kind,
            _rule(table, chain, comment, expressions),
            wire.NLM_F_CREATE | wire.NLM_F_APPEND,
        )
        for table, chain, comment, expressions in rules
    ]
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


def _in_network(network: IPNetwork) -> list[bytes]:
    wanted = network.network_address.packed
    if network.prefixlen == network.max_prefixlen:
        return [_compare(_EQUAL, wanted)]
    return [_masked(network.netmask.packed), _compare(_EQUAL, wanted)]


@functools.cache
def _is_dnat() -> tuple[bytes, ...]:
    none = bytes(4)
    counter = expression("counter", wire.attribute(1, bytes(8)), wire.attribute(2, bytes(8)))
    return _ct(_CT_STATUS), _masked(struct.pack("=I", _IPS_DST_NAT)), _compare(_NOT_EQUAL, none), counter


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

"""Elements of nft's sets and maps of the family inet, over netlink: a thousand are added as fast as one, alone or together."""

from __future__ import annotations

import errno
import functools
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_netns.errors import KernelError, UnavailableError
from pytest_netns.kernel.netlink import nfnetlink, nfrules, wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NetlinkSocket

_NEW, _GET, _DELETE = map(nfnetlink.nf_tables, (12, 13, 14))
_INET = nfnetlink.header(nfnetlink.NFPROTO_INET)
# linux/netfilter/nf_tables.h
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _LIST_ELEMENT, _VALUE = 1, 2, 3, 1, 1
_KEY, _DATA, _USERDATA, _EXPRESSION = 1, 2, 6, 7
_PER_MESSAGE = 256  # with comments of full length they fit into an attribute, which has at most 64 KiB


class Place(NamedTuple):
    """A set or map, and its table."""

    table: str
    set: str


Changes = Mapping[Place, Sequence[bytes]]  # elements, as `element` gives them


def element(key: bytes, data: bytes = b"", comment: str = "") -> bytes:
    """An element of a set or map.

    Args:
        key: as the kernel has it.
        data: a map's value, with the parts of a concatenation padded to four bytes each.
        comment: empty for none.
    """
    parts = _field(_KEY, key)
    if data:
        parts += _field(_DATA, data)
    if comment:
        parts += wire.attribute(_USERDATA, nfnetlink.comment(comment))
    return wire.nested(_LIST_ELEMENT, parts)


def change(netlink: NetlinkSocket, delete: Changes, add: Changes) -> None:
    """Delete elements and add others, in one transaction.

    Raises:
        KernelError: the kernel refused one: ENOENT if it does not exist, EEXIST if it already exists, EMSGSIZE
            for more than fit into one transaction; nothing of it was done.
    """
    requests = [*_requests(_DELETE, delete), *_requests(_NEW, add, wire.NLM_F_CREATE | wire.NLM_F_EXCL)]
    if requests:
        netlink.transaction(nfnetlink.BEGIN, requests, nfnetlink.END)


def comments(netlink: NetlinkSocket, place: Place) -> dict[bytes, str]:
    """The keys of a set's elements, with their comments; empty if the set does not exist."""
    request = Request(("list elements of nft set", place.set), _GET, _head(place))
    try:
        return {key: comment for found in netlink.dump(request, _parse_comments) for key, comment in found}
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return {}
        raise


def counts(netlink: NetlinkSocket, place: Place, key: bytes) -> tuple[int, int]:
    """Packets and bytes that an element has counted.

    Raises:
        KernelError: ENOENT if it does not exist.
        UnavailableError: it does not count, since the kernel took no notice of its set's ``counter``.
    """
    body = _head(place) + wire.nested(_LIST_ELEMENTS, element(key))
    return netlink.get(Request(("read element of nft set", place.set), _GET, body), _parse_counts)


def _requests(kind: int, changes: Changes, flags: int = 0) -> Iterator[Request]:
    for place, elements in changes.items():
        for start in range(0, len(elements), _PER_MESSAGE):
            body = _head(place) + wire.nested(_LIST_ELEMENTS, *elements[start : start + _PER_MESSAGE])
            yield Request(("change elements of nft set", place.set), kind, body, flags)


def _field(kind: int, value: bytes) -> bytes:
    length = len(value)
    return _field_header(kind, length) + value + bytes(-length & 3)


@functools.cache
def _field_header(kind: int, length: int) -> bytes:
    """The headers of an attribute and of the one in it: the same for thousands."""
    return struct.pack("=HHHH", 8 + (length + 3 & ~3), kind | wire.NLA_F_NESTED, 4 + length, _VALUE)


def _head(place: Place) -> bytes:
    return _INET + wire.text(_LIST_TABLE, place.table) + wire.text(_LIST_SET, place.set)


def _elements(body: bytes) -> Iterator[dict[int, bytes]]:
    """The elements in an NFT_MSG_NEWSETELEM message."""
    listed = wire.attributes(body, nfnetlink.HEADER_SIZE).get(_LIST_ELEMENTS, b"")
    return (wire.attributes(each) for each in nfrules.items(listed))


def _parse_comments(body: bytes) -> list[tuple[bytes, str]]:
    return [
        (wire.attributes(each[_KEY])[_VALUE], nfrules.comment(each.get(_USERDATA, b""))) for each in _elements(body)
    ]


def _parse_counts(body: bytes) -> tuple[int, int]:
    (element,) = _elements(body)
    if _EXPRESSION not in element:
        raise UnavailableError("counters of nft sets", "this kernel has none", "Linux 5.7 or newer has them")
    return nfrules.counts_of(element[_EXPRESSION])

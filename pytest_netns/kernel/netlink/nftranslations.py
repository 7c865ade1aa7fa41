"""The nft rules of a namespace that translate addresses, as one value: whether a user's text has changed any of them."""

from __future__ import annotations

from pytest_netns.kernel.netlink import nfnetlink, nfrules, wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NetlinkSocket

_GETCHAIN, _GETRULE, _GETSET, _GETSETELEM = map(nfnetlink.nf_tables, (4, 7, 10, 13))
# linux/netfilter/nf_tables.h
_CHAIN_TABLE, _CHAIN_TYPE = 1, 7
_RULE_TABLE, _RULE_EXPRESSIONS, _RULE_POSITION = 1, 4, 6
_SET_TABLE, _SET_NAME, _SET_FLAGS = 1, 2, 3
_SET_CONSTANT, _SET_TIMEOUT, _SET_EVAL = 0x2, 0x10, 0x20
_ELEMENTS = 3
_ELEMENT_EXPRESSION, _ELEMENT_EXPRESSIONS = 7, 11

_Table = tuple[int, bytes]  # family and name, as in messages


def read(netlink: NetlinkSocket) -> frozenset[object]:
    """All rules and elements of NAT tables, not decoded: two results differ if the rules for new connections differ."""
    tables = set(netlink.dump(_everything("chains", _GETCHAIN), _parse_nat_table))
    if not tables:
        return frozenset()
    bodies: set[object] = {
        each for each in netlink.dump(_everything("rules", _GETRULE), _parse_rule) if each[0] in tables
    }
    for (family, table), name in netlink.dump(_everything("sets", _GETSET), _parse_set):
        if (family, table) in tables:
            body = nfnetlink.header(family) + wire.attribute(_SET_TABLE, table) + wire.attribute(_SET_NAME, name)
            request = Request(("list elements of nft sets",), _GETSETELEM, body)
            for elements in netlink.dump(request, _parse_elements):
                bodies |= {(family, table, name, each) for each in elements}
    return frozenset(bodies)


def _everything(what: str, message: int) -> Request:
    return Request((f"list nft {what}",), message, nfnetlink.header())


def _parse_nat_table(body: bytes) -> _Table | None:
    """The table of a chain of type nat; None for other chains."""
    attributes = wire.attributes(body, nfnetlink.HEADER_SIZE)
    is_nat = wire.read_text(attributes.get(_CHAIN_TYPE, b"")) == "nat"
    return (body[0], attributes[_CHAIN_TABLE]) if is_nat else None


def _parse_rule(body: bytes) -> tuple[_Table, bytes]:
    """The table of a rule, and the rule without what changes by itself: its counts, and who comes before it."""
    attributes = wire.attributes(body, nfnetlink.HEADER_SIZE)
    attributes.pop(_RULE_POSITION, None)
    expressions = b"".join(
        each for each in nfrules.items(attributes.pop(_RULE_EXPRESSIONS, b"")) if b"counter\0" not in each[:16]
    )
    return (body[0], attributes[_RULE_TABLE]), b"".join(attributes.values()) + expressions


def _parse_set(body: bytes) -> tuple[_Table, bytes] | None:
    """The table and name of a set; None for those that packets change, and those that only change with their rule."""
    attributes = wire.attributes(body, nfnetlink.HEADER_SIZE)
    flags = int.from_bytes(attributes.get(_SET_FLAGS, b""), "big")
    if flags & (_SET_CONSTANT | _SET_TIMEOUT | _SET_EVAL):
        return None
    return (body[0], attributes[_SET_TABLE]), attributes[_SET_NAME]


def _parse_elements(body: bytes) -> list[bytes]:
    """The elements without their counts."""
    listed = wire.attributes(body, nfnetlink.HEADER_SIZE).get(_ELEMENTS, b"")
    each_element = (wire.attributes(each) for each in nfrules.items(listed))
    return [
        b"".join(value for kind, value in each.items() if kind not in (_ELEMENT_EXPRESSION, _ELEMENT_EXPRESSIONS))
        for each in each_element
    ]

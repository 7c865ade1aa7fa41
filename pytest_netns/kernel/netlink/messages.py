"""Encode and decode message bodies with pyroute2's message classes. What every test needs is in `wire` instead.

The only module that imports pyroute2, on first use, which takes about 50 ms. Names of attributes are pyroute2's, in lower
case and without their prefix: ``vlan_id`` or ``id`` for ``IFLA_VLAN_ID``. pyroute2 silently drops unknown ones, so all
are checked against its classes' tables here.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Mapping
from typing import Any, cast

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.values.choices import suggest
from pytest_netns.values.shapes import is_mapping

_HEADER_SIZE = 16  # a netlink header, which pyroute2's classes begin with
_HEADER = struct.Struct("=IHHII")


def body(message: str, fields: Mapping[str, Any], attributes: Mapping[str, Any]) -> bytes:
    """Encode the body of a message: everything after the netlink header.

    Args:
        message: ``"link"``, ``"rule"``, ``"route"``, ``"neighbour"``, ``"queue"``, ``"connection"`` or ``"wireguard"``.
        fields: the fixed part, by pyroute2's field names; 0 if omitted.
        attributes: by name; a nested attribute is a mapping, several of the same type are a list.

    Raises:
        InvalidTopologyError: there is no such attribute.
    """
    encoder = _classes()[message]()
    for name, value in fields.items():
        encoder[name] = value
    encoder["attrs"] = _attributes(type(encoder), attributes, fields)
    encoder.encode()
    return bytes(encoder.data[_HEADER_SIZE:])


def read(message: str, body: bytes) -> dict[str, Any]:
    """Decode a body into its fields and attributes, with the same names as for `body`."""
    header = _HEADER.pack(_HEADER_SIZE + len(body), 0, 0, 0, 0)
    decoder = _classes()[message](header + body)
    decoder.decode()
    return _decoded(decoder)


def link_options(kind: str) -> tuple[str, ...]:
    """The names of the options that a kind of interface has."""
    options = _classes()["link"].ifinfo.data_map.get(kind)
    return () if options is None else tuple(sorted({_short(options, name) for name in _table(options)}))


def has_link_option(kind: str, name: str) -> bool:
    """Whether a kind of interface has an option of that name."""
    options = _classes()["link"].ifinfo.data_map.get(kind)
    return options is not None and name in _names(options)


def link_kinds() -> tuple[str, ...]:
    """The kinds of interfaces that have options."""
    return tuple(sorted(_classes()["link"].ifinfo.data_map))


@functools.cache
def _classes() -> dict[str, Any]:
    from pyroute2.netlink.generic.wireguard import wgmsg
    from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg
    from pyroute2.netlink.rtnl.fibmsg import fibmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.ndmsg import ndmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    return {
        "link": ifinfmsg,
        "rule": fibmsg,
        "route": rtmsg,
        "neighbour": ndmsg,
        "queue": _queue_class(),
        "connection": nfct_msg,
        "wireguard": wgmsg,
    }


# -- encoding --------------------------------------------------------------------------------------


def _attributes(class_: Any, given: Mapping[str, Any], fields: Mapping[str, Any]) -> list[list[Any]]:
    """The attributes in pyroute2's form and in the order of its table: those that decide how others are decoded come first."""
    table, names = _table(class_), _names(class_)
    chosen: dict[str, Any] = {}
    for name, value in given.items():
        if name.lower() not in names:
            raise _unknown(name, (_short(class_, each) for each in table))
        chosen[names[name.lower()]] = value
    encoded: list[list[Any]] = []
    for name in sorted(chosen, key=list(table).index):
        class_of_value = _class_of(class_, table[name], chosen, fields)
        several = isinstance(chosen[name], list) and not table[name].startswith("*")
        encoded += [[name, _value(class_of_value, each)] for each in (chosen[name] if several else [chosen[name]])]
    return encoded


def _value(class_: Any, value: Any) -> Any:
    if isinstance(value, list):
        return [_value(class_, each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    if not is_mapping(value) or class_ is None:
        return value
    fields = {name for name, *_ in class_.fields}
    own_fields = {name: field for name, field in value.items() if name in fields}
    others = {name: attribute for name, attribute in value.items() if name not in fields}
    if not _has_table(class_):
        if others:
            raise _unknown(next(iter(others)), fields)
        return own_fields
    return {**own_fields, "attrs": _attributes(class_, others, own_fields)}


def _class_of(class_: Any, type_: str, given: Mapping[str, Any], fields: Mapping[str, Any]) -> Any:
    """The class of a nested attribute; for some it depends on another attribute or field."""
    if type_ == "info_data":
        return class_.data_map.get(given["IFLA_INFO_KIND"])
    if type_ == "info_slave_data":
        return {"bridge": class_.bridge_slave_data, "bond": class_.bond_slave_data}.get(given["IFLA_INFO_SLAVE_KIND"])
    if type_ == "get_options":
        return _queue_options(given["TCA_KIND"])
    if type_ == "af_spec":
        return class_.af_spec_bridge if fields.get("family") else class_.af_spec_inet
    attribute_class = getattr(class_, type_.lstrip("*"), None)
    return attribute_class if isinstance(attribute_class, type) else None


def _queue_options(kind: str) -> Any:
    from pyroute2.netlink.rtnl.tcmsg import plugins

    return _newer_queue_options().get(kind) or plugins[kind].options


@functools.cache
def _queue_class() -> Any:
    from pyroute2.netlink.rtnl.tcmsg import tcmsg

    class Queue(tcmsg):  # type: ignore[misc]
        @staticmethod
        def get_options(message: Any, *args: Any, **kwargs: Any) -> Any:
            newer = _newer_queue_options().get(message.get_attr("TCA_KIND"))
            return cast("Any", newer or tcmsg.get_options(message, *args, **kwargs))

    return Queue


@functools.cache
def _newer_queue_options() -> dict[str, Any]:
    """Options of queueing disciplines with the attributes of linux/pkt_sched.h that pyroute2 does not know."""
    from pyroute2.netlink.rtnl.tcmsg import sched_netem, sched_tbf

    class Netem(sched_netem.options):  # type: ignore[misc]
        nla_map = (
            *sched_netem.options.nla_map,
            ("TCA_NETEM_ECN", "uint32"),
            ("TCA_NETEM_RATE64", "uint64"),
            ("TCA_NETEM_PAD", "none"),
            ("TCA_NETEM_LATENCY64", "int64"),
            ("TCA_NETEM_JITTER64", "int64"),
            ("TCA_NETEM_SLOT", "none"),
            ("TCA_NETEM_SLOT_DIST", "none"),
            ("TCA_NETEM_PRNG_SEED", "uint64"),
        )

    class Tbf(sched_tbf.options):  # type: ignore[misc]
        nla_map = (
            *sched_tbf.options.nla_map,
            ("TCA_TBF_RATE64", "uint64"),
            ("TCA_TBF_PRATE64", "uint64"),
            ("TCA_TBF_BURST", "uint32"),
            ("TCA_TBF_PBURST", "uint32"),
        )

    return {"netem": Netem, "tbf": Tbf}


# -- decoding --------------------------------------------------------------------------------------


def _decoded(decoder: Any) -> dict[str, Any]:
    fields: set[str] = {name for name, *_ in decoder.__class__.fields}
    values: dict[str, Any] = {name: decoder[name] for name in fields if name in decoder}
    for name, value in decoder.get("attrs", ()):
        values[_short(type(decoder), name)] = _plain(value)
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    return _decoded(value) if hasattr(value, "nla_map") and "attrs" in value else value


# -- names -----------------------------------------------------------------------------------------


def _has_table(class_: Any) -> bool:
    return bool(getattr(class_, "nla_map", ()))


@functools.cache
def _table(class_: Any) -> dict[str, str]:
    """The attributes of a class, each with the name of its value's type."""
    entries = class_.nla_map.values() if is_mapping(class_.nla_map) else class_.nla_map
    pairs = ([each for each in entry if isinstance(each, str)] for entry in entries)
    return {name: type_ for name, type_, *_ in pairs if type_ != "none"}


@functools.cache
def _names(class_: Any) -> dict[str, str]:
    """The accepted names of each attribute."""
    common = _prefix(class_)
    found = {name.removeprefix(common).lower(): name for name in _table(class_)}
    found |= {_short(class_, name): name for name in _table(class_)}
    return found | {name.lower(): name for name in _table(class_)}


@functools.cache
def _prefix(class_: Any) -> str:
    """The common prefix of all names in a table."""
    first, last = min(_table(class_)), max(_table(class_))
    common = next((n for n, pair in enumerate(zip(first, last, strict=False)) if len(set(pair)) > 1), len(first))
    return first[: first.rfind("_", 0, common) + 1]


def _short(class_: Any, name: str) -> str:
    prefix = getattr(class_, "prefix", "") or _prefix(class_)
    return name.removeprefix(prefix).lower()


def _unknown(name: str, valid: Iterable[str]) -> InvalidTopologyError:
    return InvalidTopologyError(f"cannot use option {name!r}: {suggest(name, sorted(valid))}")

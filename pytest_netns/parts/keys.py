"""The keys of a topology: how their values are parsed, their JSON Schema, and how a part is filled from them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, fields
from typing import Any, ClassVar, Final

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError
from pytest_netns.parts.impairment import IMPAIRMENT_SCHEMA, parse_impairment
from pytest_netns.values import IPNetwork
from pytest_netns.values.notes import Note
from pytest_netns.values.shapes import is_mapping, is_several

MAX_METRIC = 2**32 - 1


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    Attributes:
        parse: converts a user's value, and returns a converted one unchanged; raises `InvalidTopologyError`.
        schema: the JSON Schema of users' values; its first example is shown in error messages.
        write: converts the value for TOML, unless it is text, a number, a flag or a list of them.
    """

    parse: Callable[[Any], Any]
    schema: Mapping[str, Any]
    write: Callable[[Any], Any] | None = None


REQUIRED: Final = object()


@dataclass(frozen=True)
class Key:
    """The TOML key of a part's field, and its kind of value.

    Attributes:
        name: the key in TOML.
        kind: how one value is parsed; None for parts.
        part: the class of the parts; None for values.
        help: one sentence for the JSON Schema.
        many: whether the field is a tuple of such values or parts.
        default: the value of a missing key; ``REQUIRED`` for none.
    """

    name: str
    kind: Kind | None
    part: type[Part] | None
    help: str
    many: bool
    default: object


def one(name: str, kind: Kind, help: str, default: object = None) -> dict[str, Key]:
    """Metadata for a field with one value."""
    return {"key": Key(name, kind, None, help, False, default)}


def many(name: str, kind: Kind | type[Part], help: str, default: object = ()) -> dict[str, Key]:
    """Metadata for a field with a tuple of values or parts."""
    value, part = (kind, None) if isinstance(kind, Kind) else (None, kind)
    return {"key": Key(name, value, part, help, True, default)}


class Part:
    """Base class of all parts: knows its keys, and fills itself with parsed values.

    Attributes:
        others: the field for TOML keys that belong to no other field; empty for none.
    """

    others: ClassVar[str] = ""
    _is_parsed: bool
    _is_sound: bool
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # each part is a dataclass

    @classmethod
    @functools.cache
    def keys(cls) -> dict[str, Key]:
        """The fields' names, with their keys."""
        return {each.name: each.metadata["key"] for each in fields(cls)}

    def notes(self) -> Iterable[Note]:
        """Its notes for drawings and reports, once its topology is `assigned`; parts with notes override this."""
        return ()

    def parts(self) -> Iterator[Part]:
        """All nested parts, each followed by its own nested parts."""
        for name, key in self.keys().items():
            if key.part is not None:
                for each in getattr(self, name) if key.many else as_many(getattr(self, name)):
                    yield each
                    yield from each.parts()

    def check_values(self) -> None:
        """Raise an error if a value could not be parsed.

        Raises:
            InvalidTopologyError: names the first such value, and the valid ones.
        """
        if self._is_parsed:
            return
        for name, key in self.keys().items():
            held = getattr(self, name)
            if key.kind is not None and (held is not None or key.default is REQUIRED):
                for value in as_many(held) if key.many else (held,):
                    key.kind.parse(value)

    def _fill(self, **values: object) -> None:
        is_parsed = is_flat = True
        for name, key in self.keys().items():
            value = values[name]
            if key.kind is not None and (value is not None or key.default is REQUIRED):
                several = as_many(value) if key.many else (value,)
                try:
                    parsed = tuple([key.kind.parse(each) for each in several])
                except InvalidTopologyError:
                    parsed, is_parsed = tuple(_as_given_if_wrong(key.kind, each) for each in several), False
                value = parsed if key.many else parsed[0]
            else:
                is_flat = is_flat and key.part is None and (key.many or key.default is None)
                value = as_many(value) if key.many else value
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_is_parsed", is_parsed)
        object.__setattr__(self, "_is_sound", is_parsed and is_flat)


_is_sound = operator.attrgetter("_is_sound")  # of thousands of parts: asking for __dict__ would create one for each


def is_sound(part: Part) -> bool:
    """Whether a part holds no other parts, and all its values were parsed when it was created."""
    return bool(_is_sound(part))


def _as_given_if_wrong(kind: Kind, value: object) -> object:
    """A value, parsed if possible."""
    try:
        return kind.parse(value)
    except InvalidTopologyError:
        return value


def as_many(value: object) -> tuple[Any, ...]:
    """One or several values as a tuple; None is an empty one."""
    if isinstance(value, str):  # the most frequent case
        return (value,)
    if value is None:
        return ()
    return tuple(value) if is_several(value) else (value,)


def _text(parse: Callable[[Any], Any], *examples: str, pattern: str = "") -> Kind:
    schema = {"type": "string", "examples": list(examples)}
    return Kind(parse, {**schema, "pattern": f"^{pattern}$"} if pattern else schema)


def _whole(parse: Callable[[Any], Any], low: int, high: int, example: int) -> Kind:
    return Kind(parse, {"type": "integer", "minimum": low, "maximum": high, "examples": [example]})


def _parse_subnet(value: object, version: int) -> IPNetwork:
    network = values.parse_network(value, "subnet")
    if network.version != version:
        key = "subnet" if network.version == 4 else "subnet6"
        raise InvalidTopologyError(f"cannot use '{network}' as IPv{version} subnet: write it as '{key}'")
    return network


def _parse_destination(value: object) -> IPNetwork | str:
    return values.parse_destination(value) or "default"


def _parse_place(value: object) -> IPNetwork | str:
    """An address or network, or the name of a namespace."""
    try:
        return values.parse_network(value)
    except InvalidTopologyError as error:
        # "10.0.0.1/24" is a mistyped network, "10.0.0" a mistyped address.
        if (
            isinstance(value, str)
            and "/" not in value
            and values.NAME_PATTERN.fullmatch(value)
            and not value[0].isdigit()
        ):
            return value
        raise InvalidTopologyError(f"{error}, or the name of a namespace") from None


def _parse_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidTopologyError(f"cannot use {value!r} here: valid are true and false")


def _parse_metric(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_METRIC:
        return value
    raise InvalidTopologyError(f"cannot use {value!r} as metric: use a whole number from 0 to {MAX_METRIC}")


def _parse_nft(value: object) -> str:
    if isinstance(value, str) and "\0" not in value and value.encode(errors="replace").decode() == value:
        return value
    raise InvalidTopologyError(f"cannot use {value!r} as nft ruleset: write text, such as 'table inet mine {{ }}'")


def _parse_sysctls(value: Any) -> tuple[tuple[str, str], ...]:
    try:
        items = list(_flat(value.items()) if is_mapping(value) else ((name, text) for name, text in value))
    except (TypeError, ValueError):
        raise InvalidTopologyError(
            f"cannot use {value!r} as sysctls: write names with values, such as {{'net.ipv4.ip_forward': 1}}"
        ) from None
    settings: dict[str, str] = {}
    problems: list[str] = []
    for name, text in items:
        try:
            values.parse_sysctl_name(name)
        except InvalidTopologyError as error:
            problems.append(str(error))
            continue
        try:
            settings[name] = values.parse_sysctl_value(text)
        except InvalidTopologyError as error:
            problems.append(f"{name!r}: {error}")
    if problems:
        raise InvalidTopologyError("; ".join(problems), problems=problems)
    return tuple(settings.items())


def _flat(items: Iterable[tuple[object, object]], before: str = "") -> Iterator[tuple[object, object]]:
    """Flatten nested tables: TOML parses the key ``net.ipv4.ip_forward`` without quotes as such."""
    for name, value in items:
        if is_mapping(value):
            yield from _flat(value.items(), f"{before}{name}.")
        else:
            yield f"{before}{name}" if before else name, value


_NAME, _INTERFACE = values.NAME_PATTERN.pattern, values.INTERFACE_NAME_PATTERN.pattern

NAMESPACE = _text(values.parse_name, "red", pattern=_NAME)
INTERFACE_NAME = _text(values.parse_interface_name, "veth-red", pattern=_INTERFACE)
DEVICE = _text(values.parse_device_name, "eth0", pattern=_INTERFACE)
HOSTNAME = _text(values.parse_hostname, "api.example.com")
INTERFACE_ADDRESS = _text(values.parse_interface_address, "192.168.15.1/24", "fd00::1/64")
ADDRESS = _text(values.parse_address, "192.168.15.5", "fd00::5")
NETWORK = _text(values.parse_network, "192.168.15.0/24", "fd00::/64")
SUBNET4 = _text(lambda value: _parse_subnet(value, 4), "192.168.15.0/24")
SUBNET6 = _text(lambda value: _parse_subnet(value, 6), "fd00::/64")
DESTINATION = _text(_parse_destination, "default", "192.168.1.0/24")
GATEWAY = _text(values.parse_gateway, "192.168.15.5", "gw")
TARGET = _text(values.parse_target, "192.168.15.2:80", "[fd00::2]:80", "blue:80")
PLACE = _text(_parse_place, "192.168.15.0/24", "fd00::2", "blue")
MAC = _text(values.parse_mac, "02:00:00:00:00:01", pattern="[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
NFT = _text(_parse_nft, "table inet mine { }")
PROTOCOL = Kind(values.parse_protocol, {"enum": list(values.PROTOCOLS), "examples": ["tcp"]})
PORTS = Kind(
    values.parse_ports,
    {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535},
            {"type": "string", "pattern": "^[0-9]{1,5}(-[0-9]{1,5})?$"},
        ],
        "examples": [80, "5000-5010"],
    },
)
PORT = _whole(values.parse_port, 1, 65535, 80)
MTU = _whole(values.parse_mtu, values.MIN_MTU, values.MAX_MTU, 1500)
METRIC = _whole(_parse_metric, 0, MAX_METRIC, 100)
FLAG = Kind(_parse_flag, {"type": "boolean", "examples": [True]})
DIRECTORY = _text(values.parse_private, "/var/lib/frr")
FILES = Kind(
    values.parse_files,
    {"type": "object", "additionalProperties": {"type": "string"}, "examples": [{"/etc/motd": "hello"}]},
    write=dict,
)
SYSCTLS = Kind(
    _parse_sysctls,
    {
        "type": "object",
        "additionalProperties": {"type": ["string", "integer", "boolean", "object"]},
        "examples": [{"net.ipv4.ip_forward": 1}],
    },
    write=dict,
)
IMPAIRMENT = Kind(parse_impairment, IMPAIRMENT_SCHEMA, write=lambda value: value.as_dict())

"""A kind of interface: its options by iproute2's names, what it needs, its description in drawings; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.values import parse_address, parse_choice, parse_mac, suggest
from pytest_netns.values.shapes import is_mapping


@dataclass(frozen=True)
class Option:
    """An option of a kind.

    Attributes:
        attribute: the kernel's name for it, in lower case and without prefix, as in pyroute2: ``"vlan_id"``.
        parse: converts the user's value to the kernel's; raises `InvalidTopologyError`.
        for_ipv6: the attribute for an IPv6 address, if it is a different one.
    """

    attribute: str
    parse: Callable[[Any], Any] = field(default=lambda value: value)
    for_ipv6: str = ""


def _merged(before: Any, value: Any) -> Any:
    """Combine options that are bits of the same attribute."""
    return {name: before[name] | bits for name, bits in value.items()} if is_mapping(before) else value


def _no_description(options: Mapping[str, Any]) -> str:
    return ""


@dataclass(frozen=True)
class LinkKind:
    """A kind of interface.

    Attributes:
        name: the kernel's name for it.
        options: the options that are checked before they reach the kernel, by iproute2's names; others have the kernel's names.
        needs: the required options; ``"link"`` for a lower interface.
        example: valid options, for the doctor and for error messages.
        describe: its description in drawings, from the kernel's attributes.
        maker: how it is created: ``"netlink"``, or the name of a function in `lab/making.py`.
        without: what does not work if the kernel lacks it; empty if nothing else needs it.
        has_own_mac: whether it has its own MAC address, not that of its lower interface or of a member.
        complete: adds attributes that are derived from others.
    """

    name: str
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    needs: tuple[str, ...] = ()
    example: Mapping[str, Any] = field(default_factory=dict[str, Any])
    describe: Callable[[Mapping[str, Any]], str] = _no_description
    maker: str = "netlink"
    without: str = ""
    has_own_mac: bool = True
    complete: Callable[[dict[str, Any]], dict[str, Any]] = field(default=lambda attributes: attributes)

    def knows(self, attribute: str) -> bool:
        """Whether an attribute belongs to an option that this kind checks."""
        return any(attribute in (option.attribute, option.for_ipv6) for option in self.options.values())

    def attributes(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The kernel's attributes for options; options that this kind does not check stay unchanged.

        Raises:
            InvalidTopologyError: a value is invalid, or an option is missing.
        """
        attributes: dict[str, Any] = {}
        for name, value in given.items():
            option = self._option(name)
            if option is None:
                attributes[name.lower()] = value
                continue
            try:
                parsed = option.parse(value)
            except InvalidTopologyError as error:
                raise InvalidTopologyError(f"{error} (option {name!r} of a {self.name} interface)") from None
            attribute = option.for_ipv6 if option.for_ipv6 and ":" in str(parsed) else option.attribute
            attributes[attribute] = _merged(attributes.get(attribute), parsed)
        for name in self.needs:
            option = self.options.get(name)
            if option is not None and not {option.attribute, option.for_ipv6} & attributes.keys():
                example = self.example.get(name, self.example.get(option.attribute))
                raise InvalidTopologyError(
                    f"cannot add {self.name} interface: it needs {option.attribute}, such as {option.attribute}={example!r}"
                )
        return self.complete(attributes)

    def _option(self, name: str) -> Option | None:
        written = name.lower()
        for option_name, option in self.options.items():
            if written in (option_name, option.attribute, option.for_ipv6, f"ifla_{option.attribute}"):
                return option
        return None

    def unknown(self, name: str, attributes: tuple[str, ...]) -> InvalidTopologyError:
        """The error for an option that is neither in this kind nor in the kernel's attributes."""
        valid = sorted({*self.options, *attributes})
        return InvalidTopologyError(f"cannot use option {name!r} of a {self.name} interface: {suggest(name, valid)}")


# -- values ----------------------------------------------------------------------------------------


def number(low: int, high: int) -> Callable[[Any], int]:
    """A parser of whole numbers."""

    def parse(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise InvalidTopologyError(f"cannot use {value!r}: use a whole number from {low} to {high}")

    return parse


def one_of(**numbers: int) -> Callable[[Any], int]:
    """A parser of keywords or their numbers; ``_`` in a keyword stands for ``-``, and is dropped before a digit."""
    words = {name.lstrip("_").replace("_", "-"): number for name, number in numbers.items()}

    def parse(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value in words.values():
            return value
        return words[parse_choice(value, words, "value")]

    return parse


def flag(value: Any) -> int:
    """Parse a boolean: True, False, "on" or "off"."""
    if value in (True, False, "on", "off"):
        return int(value in (True, "on"))
    raise InvalidTopologyError(f"cannot use {value!r}: valid are true and false")


def address(value: Any) -> str:
    """Parse an IPv4 or IPv6 address."""
    return str(parse_address(value))


def address_of(version: int) -> Callable[[Any], str]:
    """A parser of addresses of one family."""

    def parse(value: Any) -> str:
        parsed = parse_address(value)
        if parsed.version != version:
            raise InvalidTopologyError(f"cannot use '{parsed}': use an IPv{version} address")
        return str(parsed)

    return parse


def mac(value: Any) -> str:
    """Parse a MAC address."""
    return parse_mac(value)


BYTE, PORT, KEY = number(0, 255), number(1, 65535), number(0, 2**32 - 1)


def tunnel(prefix: str, version: int = 4) -> dict[str, Option]:
    """The options of all IP tunnels."""
    end = address_of(version)
    return {
        "local": Option(f"{prefix}_local", end),
        "remote": Option(f"{prefix}_remote", end),
        "ttl": Option(f"{prefix}_ttl", BYTE),
        "tos": Option(f"{prefix}_tos", BYTE),
    }


def keyed(prefix: str, version: int = 4) -> dict[str, Option]:
    """The options of tunnels with keys."""
    return tunnel(prefix, version) | {"ikey": Option(f"{prefix}_ikey", KEY), "okey": Option(f"{prefix}_okey", KEY)}


def with_key_flags(prefix: str, bit: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Set the flags without which the kernel ignores a key (GRE_KEY of linux/if_tunnel.h)."""

    def complete(attributes: dict[str, Any]) -> dict[str, Any]:
        flags = {f"{prefix}_{way}flags": bit for way in "io" if f"{prefix}_{way}key" in attributes}
        return flags | attributes

    return complete


def to_remote(prefix: str) -> Callable[[Mapping[str, Any]], str]:
    """The description of a tunnel: its remote address."""

    def describe(options: Mapping[str, Any]) -> str:
        remote = options.get(f"{prefix}_remote")
        return "" if remote in (None, "0.0.0.0", "::") else f"to {remote}"

    return describe

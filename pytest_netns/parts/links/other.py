"""An interface of another kind than bridge or veth; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.parts import keys
from pytest_netns.parts.keys import REQUIRED, Kind, Part, as_many, many, one
from pytest_netns.parts.links.ends import InterfaceAddresses
from pytest_netns.parts.links.kinds import NAMES, kind_named, parse_kind
from pytest_netns.values import IPInterface
from pytest_netns.values.notes import Note
from pytest_netns.values.shapes import is_mapping


def _parse_options(value: Any) -> tuple[tuple[str, Any], ...]:
    pairs = value.items() if is_mapping(value) else value
    try:
        options = tuple((name, held) for name, held in pairs)
    except (TypeError, ValueError):
        raise InvalidTopologyError(f"cannot use {value!r} as options: write names with values") from None
    if not all(isinstance(name, str) for name, _ in options):
        raise InvalidTopologyError(f"cannot use {value!r} as options: names are text, such as 'vlan_id'")
    return options


_KIND = Kind(parse_kind, {"enum": list(NAMES), "examples": ["vlan"]})
_OPTIONS = Kind(_parse_options, {"type": "object", "examples": [{"vlan_id": 10}]}, dict)


@dataclass(frozen=True, init=False)
class LinkSpec(Part):
    """An interface of another kind: a VLAN, tunnel, bond, WireGuard ...

    Attributes:
        namespace: the name of the namespace it is in.
        name: its name.
        kind: ``"vlan"``, ``"vxlan"``, ``"dummy"`` ...
        link: the name of its lower interface; None for none.
        master: the name of the bridge, bond or VRF it is a member of; None for none.
        addresses: its addresses; ``address`` and ``addresses`` both take one or several.
        mtu: in bytes; None for the kernel's default.
        mac: MAC address; None for one derived from the names.
        options: the kind's options as (name, value) pairs; in TOML, keys like the others.
    """

    others: ClassVar[str] = "options"

    namespace: str = field(metadata=one("namespace", keys.NAMESPACE, "The namespace it is in.", REQUIRED))
    name: str = field(metadata=one("name", keys.INTERFACE_NAME, "The interface's name.", REQUIRED))
    kind: str = field(metadata=one("kind", _KIND, "Its kind; further keys are the kind's options.", REQUIRED))
    link: str | None = field(metadata=one("link", keys.DEVICE, "Its lower interface."))
    master: str | None = field(metadata=one("master", keys.DEVICE, "The bridge, bond or VRF it is a member of."))
    addresses: tuple[IPInterface, ...] = field(
        metadata=many("address", keys.INTERFACE_ADDRESS, "Its address or addresses.")
    )
    mtu: int | None = field(metadata=one("mtu", keys.MTU, "MTU in bytes."))
    mac: str | None = field(metadata=one("mac", keys.MAC, "MAC address."))
    options: tuple[tuple[str, Any], ...] = field(metadata=one("options", _OPTIONS, "The kind's options.", ()))

    def __init__(
        self,
        namespace: str,
        name: str,
        *,
        kind: str,
        link: str | None = None,
        master: str | None = None,
        address: InterfaceAddresses | None = None,
        addresses: InterfaceAddresses = (),
        mtu: int | None = None,
        mac: str | None = None,
        options: Mapping[str, Any] | tuple[tuple[str, Any], ...] = (),
        **more: Any,
    ) -> None:
        given = {**dict(options), **more} if isinstance(options, Mapping | tuple) else options
        self._fill(
            namespace=namespace, name=name, kind=kind, link=link, master=master,
            addresses=as_many(address) + as_many(addresses), mtu=mtu, mac=mac, options=given,
        )  # fmt: skip

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with it, as far as the kind itself can check: the key (empty for options), and a sentence."""
        kind = kind_named(self.kind)
        try:
            kind.attributes(dict(self.options))
        except InvalidTopologyError as error:
            yield "", str(error)
        if "link" in kind.needs and self.link is None:
            yield "link", f"is missing: a {self.kind} interface needs link, its lower interface"

    def notes(self) -> Iterator[Note]:
        """Its important properties: VLAN 10, VNI 7, its lower interface."""
        kind = kind_named(self.kind)
        description = kind.describe(kind.attributes(dict(self.options)))
        for text in (description, f"on {self.link}" if self.link else ""):
            if text:
                yield Note(self.namespace, text, self.name)

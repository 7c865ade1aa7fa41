"""The kinds of interfaces for `Namespace.add_interface`: one file for each, and its entry here; pure."""

from __future__ import annotations

import functools
import importlib

from pytest_netns.parts.links.kinds.kind import LinkKind
from pytest_netns.values import parse_choice

NAMES = (
    "bond",
    "bridge",
    "dummy",
    "geneve",
    "gre",
    "gretap",
    "ifb",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "ipip",
    "ipvlan",
    "macvlan",
    "macvtap",
    "nlmon",
    "sit",
    "tap",
    "tun",
    "vlan",
    "vrf",
    "vti",
    "vti6",
    "vxlan",
    "wireguard",
    "xfrm",
)


@functools.cache
def kind_named(name: str) -> LinkKind:
    """The kind with a name, loaded on first use.

    Raises:
        InvalidTopologyError: there is none; lists the valid ones.
    """
    module = importlib.import_module(f"{__name__}.{parse_kind(name)}")
    kind: LinkKind = module.KIND
    return kind


def parse_kind(name: object) -> str:
    """Check the name of a kind and return it."""
    return parse_choice(name, NAMES, "kind of interface")

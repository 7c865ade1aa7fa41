"""Two moments of a network compared."""

from __future__ import annotations

from dataclasses import replace

from pytest_netns.explaining.state import InterfaceState, NamespaceState, changes

ETH = InterfaceState("eth0", "veth", "02:00:00:00:00:01", 1500, True, True, ("10.0.0.1/24",))
RED = NamespaceState("red", (ETH,), ("10.0.0.0/24 dev eth0",))


def test_nothing_changed() -> None:
    """Counters, carrier, neighbours and the kernel's own link-local addresses are not changes of the set-up."""
    busy = replace(ETH, received=9, has_carrier=False, addresses=(*ETH.addresses, "fe80::1/64"))
    now = replace(RED, interfaces=(busy,), neighbours=("10.0.0.2",), routes=(*RED.routes, "fe80::/64 dev eth0"))
    assert changes({"red": RED}, {"red": now}) == []


def test_what_is_gone_and_what_is_new() -> None:
    """Each fact that is gone or new is a line that names the namespace."""
    now = replace(RED, interfaces=(replace(ETH, is_up=False, mtu=900, addresses=("10.0.0.7/24",)),), routes=())
    assert changes({"red": RED}, {"red": now}) == [
        "- red: interface eth0, MTU 1500",
        "- red: eth0 is up",
        "- red: eth0 has 10.0.0.1/24",
        "- red: route 10.0.0.0/24 dev eth0",
        "+ red: interface eth0, MTU 900",
        "+ red: eth0 is down",
        "+ red: eth0 has 10.0.0.7/24",
    ]


def test_namespaces_come_and_go() -> None:
    """A namespace that was added since is told with all it holds, one that is gone by its name."""
    assert changes({"old": NamespaceState("old")}, {"new": NamespaceState("new", routes=("default dev lo",))}) == [
        "- old: the namespace",
        "+ new: the namespace",
        "+ new: route default dev lo",
    ]

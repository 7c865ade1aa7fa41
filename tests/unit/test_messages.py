"""Messages that pyroute2's classes encode: options by their names, each checked; what is written is read back."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from pytest_netns import InvalidTopologyError
from pytest_netns.kernel.netlink import messages


@pytest.mark.parametrize(
    ("message", "fields", "attributes"),
    [
        ("link", {"index": 7}, {"ifname": "x", "link": 3, "linkinfo": {"kind": "vlan", "data": {"vlan_id": 10}}}),
        ("link", {"index": 7}, {"linkinfo": {"slave_kind": "bridge", "slave_data": {"isolated": 1}}}),
        ("rule", {"family": 2, "action": 1}, {"src": "10.0.0.0", "priority": 5}),
        ("route", {"family": 2, "dst_len": 24}, {"dst": "10.0.0.0", "oif": 4}),
        ("neighbour", {"ifindex": 3, "state": 128}, {"lladdr": "02:00:00:00:00:01"}),
        ("queue", {"index": 3}, {"kind": "netem", "options": {"delay": 5, "limit": 9, "corr": {"loss_corr": 1}}}),
    ],
    ids=["option of a kind", "option of a port", "rule", "route", "neighbour", "queue"],
)
def test_what_is_written_is_read(message: str, fields: dict[str, Any], attributes: dict[str, Any]) -> None:
    """Fields and attributes, including nested ones, are read back unchanged."""

    def subset(given: Any, found: Any) -> bool:
        if isinstance(given, dict):
            return all(subset(value, found[name]) for name, value in given.items())
        return bool(given == found)

    assert subset(fields | attributes, messages.read(message, messages.body(message, fields, attributes)))


@pytest.mark.parametrize("name", ["id", "vlan_id", "IFLA_VLAN_ID"])
def test_names_of_options(name: str) -> None:
    """An option has the kernel's name, with or without the common prefix of its table."""
    attributes = {"linkinfo": {"kind": "vlan", "data": {name: 10}}}
    assert messages.read("link", messages.body("link", {}, attributes))["linkinfo"]["data"] == {"vlan_id": 10}


@pytest.mark.parametrize(
    ("kind", "data", "mistake"),
    [
        ("vlan", {"vlan_idd": 10}, r"cannot use option 'vlan_idd': valid are .*did you mean 'vlan_id'\?"),
        ("bond", {"ad_info": {"aggregatr": 1}}, r"'aggregatr': .*did you mean '.*aggregator'\?"),
        ("macvlan", {"moda": 1}, "'moda'.*'macvlan_mode'"),
    ],
)
def test_unknown_options(kind: str, data: dict[str, Any], mistake: str) -> None:
    """An option that pyroute2 would silently drop is an error that lists the valid ones."""
    with pytest.raises(InvalidTopologyError, match=mistake):
        messages.body("link", {}, {"linkinfo": {"kind": kind, "data": data}})


def test_several_attributes_of_one_kind() -> None:
    """A list becomes that many attributes."""
    vlans = {"af_spec": {"vlan_info": [{"vid": 10}, {"vid": 20}]}}
    assert messages.body("link", {"family": 7}, vlans)[16:].hex() == "14001a000800020000000a000800020000001400"


def test_pyroute2_is_imported_at_first_use() -> None:
    """A test that needs none of this does not import it."""
    script = (
        "import sys\nfrom pytest_netns.lab import lab, building\nfrom pytest_netns.kernel.netlink import messages\n"
        "assert 'pyroute2' not in sys.modules\nmessages.link_kinds()\nassert 'pyroute2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

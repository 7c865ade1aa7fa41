"""The plugin's state in pytest's stashes, and its warning categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_netns.plugin.marker import BODY_INSIDE
from pytest_netns.plugin.run import Run

if TYPE_CHECKING:
    from pytest_netns.explaining.snapshot import Snapshot
    from pytest_netns.lab.lab import Lab
    from pytest_netns.plugin.from_outside import Access

RUN = pytest.StashKey[Run]()  # of the configuration
LAB = pytest.StashKey["Lab"]()  # of a test, or of a node with wider scope
SNAPSHOTS = pytest.StashKey[Mapping["Lab", "Snapshot"]]()
OUTSIDE_ACCESSES = pytest.StashKey[Sequence["Access"]]()
FIXTURES = frozenset({"netns", "netns_factory", "netns_pair", "netns_lan", "netns_nat", BODY_INSIDE})


class NamespaceLeakWarning(pytest.PytestWarning):
    """A namespace is still alive 5 s after its test; the message names what holds it."""


class OutsideNamespaceWarning(pytest.PytestWarning):
    """A test has connected to an address of its lab outside of every namespace: the packets went elsewhere."""


class ServiceDiedWarning(pytest.PytestWarning):
    """A service ended during a test without having been stopped."""


def uses_netns(item: pytest.Item) -> bool:
    """Whether a test has any of the plugin's fixtures."""
    return not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def labs_of(item: pytest.Item) -> list[Lab]:
    """The test's own lab, and labs of wider scope if it uses any."""
    names = getattr(item, "fixturenames", ())
    labs = [item.stash[LAB]] if LAB in item.stash else []
    if "netns_factory" in names:
        labs += item.config.stash[RUN].factory.labs
    if "netns" in names:  # with a parameter it may have a wider scope
        wider = [node.stash[LAB] for node in item.listchain()[:-1] if LAB in node.stash]
        labs += [lab for lab in wider if not lab.closed]
    return labs


def forget(item: pytest.Item) -> None:
    """Release a test's lab: pytest keeps all items until the end of the run, and packets would fill the memory."""
    if LAB in item.stash:
        item.stash[LAB].captures.forget_recording()
        del item.stash[LAB]
    if SNAPSHOTS in item.stash:
        del item.stash[SNAPSHOTS]
    if OUTSIDE_ACCESSES in item.stash:
        del item.stash[OUTSIDE_ACCESSES]

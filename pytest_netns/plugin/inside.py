"""Which parts of a marked test run inside its namespace: the body and the function-scoped fixtures, and nothing else.

Hooks of other plugins and reporters run outside. However a test ends - an exception from a signal handler may come
between any two instructions - pytest's thread is moved back before the next test.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_netns.lab.namespace import Namespace

INSIDE: pytest.StashKey[Namespace] = pytest.StashKey()  # the namespace in which a test's body runs
_PLACE = pytest.StashKey[int]()  # the inode of the namespace pytest's thread was in before a test

Block = contextlib.AbstractContextManager[object]


def of(node: Any) -> Block:
    """A block in which the calling thread is in the namespace of a test's body, if it has one."""
    namespace = node.stash.get(INSIDE, None)
    return contextlib.nullcontext() if namespace is None or not namespace.programs.is_open else namespace


def own_sysfs(item: pytest.Item) -> Block:
    """A block in which a test's body that runs inside sees its namespace's interfaces in /sys."""
    if INSIDE not in item.stash:
        return contextlib.nullcontext()
    from pytest_netns.kernel.spaces.own_sysfs import OwnSysfs

    return OwnSysfs()


def teardown_inside(node: Any) -> tuple[Callable[[], None], Callable[[], object]]:
    """Two finalizers that run a fixture's teardown inside: add the first before its set-up, the second after it."""
    block = contextlib.ExitStack()
    return block.close, lambda: block.enter_context(of(node))


def outside() -> Block:
    """A block in which the calling thread is outside of every namespace it has entered."""
    moving: Any = sys.modules.get("pytest_netns.kernel.spaces.moving")
    block: Block = contextlib.nullcontext() if moving is None else moving.outside()
    return block


def depth() -> int:
    """The number of blocks the calling thread is in."""
    moving: Any = sys.modules.get("pytest_netns.kernel.spaces.moving")
    return 0 if moving is None else int(moving.depth())


def leave_to(depth: int) -> None:
    """Leave all blocks deeper than a depth."""
    moving: Any = sys.modules.get("pytest_netns.kernel.spaces.moving")
    if moving is not None:
        moving.leave_to(depth)


def keep(depth: int) -> None:
    """Mark the blocks deeper than a depth, entered by a fixture of wider scope, as outlasting the test."""
    moving: Any = sys.modules.get("pytest_netns.kernel.spaces.moving")
    if moving is not None:
        moving.keep(depth)


def note_place(item: pytest.Item) -> None:
    """Record the namespace of pytest's thread before a test."""
    moving: Any = sys.modules.get("pytest_netns.kernel.spaces.moving")
    if moving is not None:
        moving.leave_to(moving.depth_kept())
        if not moving.depth():
            item.stash[_PLACE] = moving.current_inode()


def restore_place(item: pytest.Item) -> None:
    """After a test: move pytest's thread back to where it was before, or end the process with a message."""
    moving: Any = sys.modules.get("pytest_netns.kernel.spaces.moving")
    if moving is None:
        return
    moving.leave_to(moving.depth_kept())
    own_sysfs: Any = sys.modules.get("pytest_netns.kernel.spaces.own_sysfs")
    if own_sysfs is not None:
        own_sysfs.restore()
    place = item.stash.get(_PLACE, None)
    if place is not None and moving.current_inode() != place and not moving.depth():
        from pytest_netns.kernel.spaces import netns

        netns.go_home()
        if moving.current_inode() != place:
            moving.abort(f"{item.nodeid} has left the main thread in another network namespace")

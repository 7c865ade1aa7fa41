"""Forked copies of this process, and Python's warning about forking with threads: suppressed if all of these are ours.

Python 3.12 warns in the parent after a fork if the process has several threads, since a child may deadlock on locks they
held. Our threads hold none that a child uses. With other threads, the warning is shown as usual.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import cast

from pytest_netns.kernel.system import privileges

PREFIX = "netns-"  # of the names of our threads
_MESSAGE = r".*multi-threaded, use of \w+\(\) may lead to deadlocks"


def fork() -> int:
    """`os.fork` without the warning, for a child that uses no locks of other threads; an xdist worker always has several."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def in_child(function: Callable[[], object]) -> None:
    """Call a function in every forked child. Does nothing on Windows, which has no fork and on which suites import Lab too."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def in_parent(function: Callable[[], object]) -> None:
    """The same for the parent, after each fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_parent=function)


def _before() -> None:
    """Decide at each fork: the warning filters may have been replaced, and other threads started."""
    ours = sum(thread.name.startswith(PREFIX) for thread in threading.enumerate())
    if ours and privileges.thread_count() == ours + 1:
        warnings.filterwarnings("ignore", _MESSAGE, DeprecationWarning)
        return
    filters = cast("list[tuple[object, ...]]", warnings.filters)  # a list, whatever typeshed says
    for entry in [entry for entry in filters if getattr(entry[1], "pattern", None) == _MESSAGE]:
        filters.remove(entry)


if sys.version_info >= (3, 12) and hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before)

"""Tests that fork are not warned about threads that are ours.

Python 3.12 warns in the parent after a fork if the process has several threads, since a child may deadlock on what they
held. Ours hold nothing that a child uses. Threads of anybody else are warned about as ever.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings

PREFIX = "netns-"  # of the names of our threads
_MESSAGE = r".*multi-threaded, use of \w+\(\) may lead to deadlocks"


def fork() -> int:
    """`os.fork`, unwarned, for a child that uses nothing another thread may hold; an xdist worker has several from its start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _before() -> None:
    """Decide anew at each fork: whoever runs a test may have replaced the filters since, and other threads may have come."""
    own = sum(thread.name.startswith(PREFIX) for thread in threading.enumerate())
    if own and len(os.listdir("/proc/self/task")) == own + 1:
        warnings.filterwarnings("ignore", _MESSAGE, DeprecationWarning)
        return
    for entry in [each for each in warnings.filters if getattr(each[1], "pattern", None) == _MESSAGE]:
        warnings.filters.remove(entry)  # type: ignore[attr-defined]


if sys.version_info >= (3, 12):
    os.register_at_fork(before=_before)

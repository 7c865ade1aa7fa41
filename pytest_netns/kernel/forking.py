"""Tests that fork are not warned about threads that are ours.

Python 3.12 warns in the parent of a fork if the process has several threads, since a child may deadlock on what they
held. Ours hold nothing that a child uses. Threads of anybody else are warned about as ever.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings

PREFIX = "netns-"  # of the names of our threads
_quiet: list[warnings.catch_warnings[None]] = []


def _before() -> None:
    own = sum(thread.name.startswith(PREFIX) for thread in threading.enumerate())
    if own and len(os.listdir("/proc/self/task")) == own + 1:
        quiet = warnings.catch_warnings()
        quiet.__enter__()
        _quiet.append(quiet)
        warnings.filterwarnings("ignore", r".*multi-threaded, use of \w+\(\) may lead to deadlocks", DeprecationWarning)


def _after() -> None:
    while _quiet:
        _quiet.pop().__exit__(None, None, None)


if sys.version_info >= (3, 12):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)

"""A pytest plugin for tests of containers' refusals: system calls fail as they do there, by a real seccomp(2) filter.

Usage: ``REFUSE=pids,mounts,names pytest -p tests.support.refusals``; ``mount`` refuses mount(2) itself.
"""

from __future__ import annotations

import os

import pytest

from tests.support.seccomp_filter import install, parse, program

_WORDS = {
    "pids": "unshare/0&0x20000000:EPERM",
    "mounts": "unshare/0&0x00020000:EPERM",
    "names": "unshare/0&0x04000000:EPERM",
    "mount": "mount:EPERM",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    # Before the plugin checks the machine.
    kinds = filter(None, os.environ.get("REFUSE", "").split(","))
    install(program([parse(_WORDS[kind]) for kind in kinds if kind in _WORDS]))

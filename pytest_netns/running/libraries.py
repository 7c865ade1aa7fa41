"""Make libraries respect namespaces once they have been imported: those that start threads or processes for later work."""

from __future__ import annotations

import sys

_not_imported = {
    "concurrent.futures.thread", "trio", "anyio._backends._asyncio", "twisted.python.threadpool", "uvloop", "multiprocessing",
}  # fmt: skip


def adopt() -> None:
    """Make libraries respect namespaces; does nothing for those that have not been imported."""
    if sys.modules.keys().isdisjoint(_not_imported):  # asked at each block
        return
    from pytest_netns.running import multiprocess, pools

    functions = {
        "concurrent.futures.thread": pools.adopt_executor,
        "trio": pools.adopt_trio,
        "anyio._backends._asyncio": pools.adopt_anyio,
        "twisted.python.threadpool": pools.adopt_twisted,
        "uvloop": pools.adopt_uvloop,
        "multiprocessing": multiprocess.adopt,
    }
    for library in _not_imported & sys.modules.keys():
        try:
            _not_imported.remove(library)
        except KeyError:  # another thread adapts it
            continue
        functions[library]()

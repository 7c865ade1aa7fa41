"""Make multiprocessing's helper processes respect namespaces: Python has only one of each for all networks.

Processes started by the method "forkserver" run where their fork server runs, so each namespace gets its
own. The resource tracker needs no network: it is started outside, and outlives labs.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Collection
from typing import Any

from pytest_netns.kernel.programs import watchdog
from pytest_netns.kernel.spaces import netns
from pytest_netns.kernel.system import forking
from pytest_netns.running import resolving

_servers: dict[int, Any] = {}  # by the namespace's inode
forking.in_child(_servers.clear)  # they are the parent's


def adopt() -> None:
    """Make multiprocessing respect namespaces."""
    from multiprocessing import forkserver, resource_tracker

    common, tracker = _object_of(forkserver.get_inherited_fds), _object_of(resource_tracker.getfd)
    ensure_running = tracker.ensure_running

    def server_here() -> Any:
        programs = resolving.current()
        if programs is None:
            return common
        inode = programs.inode
        if inode not in _servers:
            _servers[inode] = type(common)()
            _servers[inode].set_forkserver_preload(_internal(common, "_preload_modules"))
        return _servers[inode]

    def ensure_tracker_outside() -> Any:
        with netns.home():
            return ensure_running()

    def connect_here(fds: Any) -> Any:
        return server_here().connect_to_new_process(fds)

    def ensure_running_here() -> Any:
        return server_here().ensure_running()

    forkserver.connect_to_new_process = connect_here
    forkserver.ensure_running = ensure_running_here
    resource_tracker.ensure_running = tracker.ensure_running = ensure_tracker_outside


def end(inodes: Collection[int]) -> None:
    """End the helpers that are in namespaces about to be closed."""
    for inode in inodes:
        if inode in _servers:
            _end_helper(_servers.pop(inode), "_forkserver_pid", inodes)
    module = sys.modules.get("multiprocessing.resource_tracker")
    if module is not None:  # it may have been started inside
        _end_helper(_object_of(module.getfd), "_pid", inodes)


def _end_helper(helper: Any, attribute: str, inodes: Collection[int]) -> None:
    pid = _internal(helper, attribute)
    if pid is not None and watchdog.signal_if_inside(pid, set(inodes), signal.SIGKILL):
        with contextlib.suppress(OSError):
            _internal(helper, "_stop")()  # reaps it and resets the helper, so that the next use starts another


def _object_of(function: Any) -> Any:
    """The object whose methods a multiprocessing module exports as functions."""
    return function.__self__


def _internal(helper: Any, name: str) -> Any:
    """A private attribute of multiprocessing; None if this Python version has none."""
    return getattr(helper, name, None)

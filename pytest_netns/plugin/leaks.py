"""Find and report namespaces that outlive their test, and what holds them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pytest_netns.errors import encodable
from pytest_netns.kernel.spaces import destruction, holders
from pytest_netns.kernel.system.waiting import Deadline
from pytest_netns.plugin.state import NamespaceLeakWarning

if TYPE_CHECKING:
    from pytest_netns.kernel.spaces.destruction import Hub, Watched

_USUAL = 0.3  # seconds within which the kernel frees nearly all namespaces


class Leak(NamedTuple):
    """A namespace that is still alive 5 s after its lab was closed.

    Attributes:
        owner: the test.
        message: the namespace, and what holds it.
        by_library: whether only native threads of a library hold it, which cannot be ended.
    """

    owner: str
    message: str
    by_library: bool


def find(*, wait: bool) -> list[Leak]:
    """Find the namespaces that should be gone by now; each is returned once.

    Args:
        wait: at the end of the run: wait for namespaces closed just before.
    """
    hub = destruction.hub_if_any()
    if hub is None:
        return []
    if wait:
        _wait(hub)
    elif hub.overdue(destruction.GRACE):
        gc.collect()  # reference cycles keep sockets open until collected
        hub.wait(_USUAL)
    leaks: list[Leak] = []
    for late in hub.overdue(0 if wait else destruction.GRACE):
        leak = _describe(hub, late, wait=wait)
        if leak is not None:
            leaks.append(leak)
            hub.forget(late)
    return leaks


def report(session: pytest.Session, leaks: Iterable[Leak], *, as_errors: bool) -> None:
    """Warn about leaks at the end of the run, or report each as an error."""
    for owner, message, by_library in leaks:
        if by_library:  # not the test's fault: listed at the end, regardless of warning filters
            continue
        try:
            if as_errors:
                raise NamespaceLeakWarning(message)
            session.config.issue_config_time_warning(NamespaceLeakWarning(f"{owner}: {message}"), stacklevel=2)
        except NamespaceLeakWarning:  # the user's filters may make the warning an error too
            session.config.hook.pytest_runtest_logreport(report=_report(owner, message))
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _report(nodeid: str, message: str) -> pytest.TestReport:
    """An error report for the teardown of a test that has already ended."""
    path = nodeid.split("::")[0]
    location = (path, None, nodeid)
    return pytest.TestReport(nodeid, location, {}, "failed", message, "teardown")


def _wait(hub: Hub) -> None:
    """Wait until all are gone, or only those held by libraries are left."""
    if "pytest_netns.kernel.spaces.capture_threads" in sys.modules:
        from pytest_netns.kernel.spaces import capture_threads

        capture_threads.flush()
    grace = Deadline(destruction.GRACE)
    hub.wait(_USUAL)
    if hub.alive():
        _release_traceback()
        hub.wait(_USUAL)
    if not all(_is_library(holders.find(each.inode)) for each in hub.alive()):
        hub.wait(grace.remaining())


def _release_traceback() -> None:
    """Release the last failed test's traceback and its variables, which pytest keeps for a debugger."""
    if not sys.flags.interactive and not sys.flags.inspect:
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            if hasattr(sys, name):
                delattr(sys, name)
    gc.collect()


def _describe(hub: Hub, late: Watched, *, wait: bool) -> Leak | None:
    """Describe what holds a namespace; None if the kernel is merely slow to free it."""
    held = holders.find(late.inode)
    if not held and wait:
        hub.wait(destruction.BUSY_GRACE - destruction.GRACE)
    if not held and late not in hub.overdue(destruction.BUSY_GRACE):
        return None
    if _is_library(held):
        message = (
            f"namespace {late.name!r} remains until the end of the process: {_listed(held)}; {holders.LIBRARY_REMEDY}"
        )
        return Leak(late.owner, encodable(message), by_library=True)
    what = _listed(held) or "; ".join(holders.suspects()) or holders.UNKNOWN
    message = f"namespace {late.name!r} is still alive {destruction.GRACE:g} s after its lab was closed: {what}"
    return Leak(late.owner, encodable(message), by_library=False)


def _is_library(held: list[holders.Holder]) -> bool:
    return bool(held) and all(each.by_library for each in held)


def _listed(held: list[holders.Holder]) -> str:
    return "; ".join(each.text for each in held)

"""Trying out what this machine can do, and saying what each failure means."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from pytest_netns.kernel.spaces.moving import THREAD_NAMESPACE
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import diagnosis, privileges, syscalls
from pytest_netns.machine import attempts, rootless
from pytest_netns.machine.attempts import StepError, step


@dataclass(frozen=True)
class Probe:
    """One thing to try.

    Attributes:
        group: what it belongs to, such as ``"interfaces"``.
        name: what is tried.
        without: what becomes of tests where it does not work; empty where nothing else needs it.
        attempt: tries it; runs in a child process that may make namespaces.
        base: whether the child first moves into a network namespace of its own, in the mode that this machine allows.
    """

    group: str
    name: str
    without: str
    attempt: Callable[[], None]
    base: bool = True


@dataclass(frozen=True)
class Result:
    """What came of a probe; ``cause`` and ``remedy`` are empty where it went well.

    Attributes:
        tried: False where it needs a network namespace and there is none to be had.
    """

    probe: Probe
    ok: bool
    cause: str = ""
    remedy: str = ""
    tried: bool = True


def run(probes: Iterable[Probe]) -> list[Result]:
    """Try them all, leaving nothing of it."""
    works_as_root()  # once, for all the child processes
    base_failure = attempts.try_in_child(try_network)
    results = []
    for probe in probes:
        if not probe.base:
            results.append(_result(probe, attempts.try_in_child(probe.attempt)))
        elif base_failure is not None:
            results.append(_result(probe, base_failure, tried=False))
        else:
            results.append(_result(probe, attempts.try_in_child(partial(_attempt_in_base, probe))))
    return results


def _attempt_in_base(probe: Probe) -> None:
    enter_base()
    probe.attempt()


def _result(probe: Probe, failure: StepError | None, *, tried: bool = True) -> Result:
    if failure is None:
        return Result(probe, True)
    cause, remedy = diagnosis.explain(failure.step, failure.errno, failure.words)
    return Result(probe, False, cause, failure.remedy or remedy, tried)


@functools.cache
def works_as_root() -> bool:
    """Whether this process can make a lab's namespaces as it is."""
    return privileges.is_privileged() and attempts.try_in_child(_leave) is None


def try_network() -> None:
    """Make a lab's network namespace, as all probes but a few need one."""
    enter_base()
    NetworkNamespace.create("probe").close()


def enter_base() -> None:
    """Move this process into a network namespace: as it is where that works, else by a user namespace."""
    if works_as_root():
        _leave()
    else:
        rootless.move()


def _leave() -> None:
    with step("network namespace"):
        fd = os.open(THREAD_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        syscalls.setns(fd, syscalls.CLONE_NEWNET)  # a lab's threads come back
        syscalls.unshare(syscalls.CLONE_NEWNET)
        os.close(fd)

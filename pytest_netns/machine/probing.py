"""Run probes of this machine's features, and explain the failures."""

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
    """One feature to try.

    Attributes:
        group: its group, such as ``"interfaces"``.
        name: its name.
        without: the consequence for tests if it does not work; empty if nothing else needs it.
        attempt: tries it; runs in a child process that may create namespaces.
        base: whether the child first moves into its own network namespace, in the mode that this machine allows.
    """

    group: str
    name: str
    without: str
    attempt: Callable[[], None]
    base: bool = True


@dataclass(frozen=True)
class Result:
    """The result of a probe; ``cause`` and ``remedy`` are empty on success.

    Attributes:
        tried: False if it needs a network namespace and none can be created.
    """

    probe: Probe
    ok: bool
    cause: str = ""
    remedy: str = ""
    tried: bool = True


def run(probes: Iterable[Probe]) -> list[Result]:
    """Run all probes, leaving nothing behind."""
    works_as_root()  # once, for all the child processes
    base_failure = attempts.try_in_child(try_network)
    results: list[Result] = []
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
    cause, remedy = diagnosis.explain(failure.step, failure.errno, failure.message)
    return Result(probe, False, cause, failure.remedy or remedy, tried)


@functools.cache
def works_as_root() -> bool:
    """Whether this process can create a lab's namespaces without rootless mode."""
    return privileges.is_privileged() and attempts.try_in_child(_leave) is None


def try_network() -> None:
    """Create a network namespace as a lab does, which most probes need."""
    enter_base()
    NetworkNamespace.create("probe").close()


def enter_base() -> None:
    """Move this process into a new network namespace, by way of a user namespace if necessary."""
    if works_as_root():
        _leave()
    else:
        rootless.move()


def _leave() -> None:
    with step("network namespace"):
        fd = os.open(THREAD_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        syscalls.setns(fd, syscalls.CLONE_NEWNET)  # a lab's threads return too
        syscalls.unshare(syscalls.CLONE_NEWNET)
        os.close(fd)

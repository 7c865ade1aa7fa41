"""Find what this environment refuses to programs in namespaces before the first one runs, in a forked child."""

from __future__ import annotations

from functools import partial

from pytest_netns.kernel.programs import mounts
from pytest_netns.kernel.system import diagnosis, syscalls
from pytest_netns.machine import attempts
from pytest_netns.machine.attempts import StepError, step

_VIEW = "view"


def find() -> list[str]:
    """A phrase for each refused part (PID namespace, mounts, host name), or one phrase if there are no network namespaces."""
    failure = attempts.try_in_child(_try)
    if failure is None:
        return []
    if failure.step == _VIEW:
        return failure.message.splitlines()
    return [f"{failure.step}: {diagnosis.explain(failure.step, failure.errno, failure.message)[0]}"]


def _try() -> None:
    with step("network namespace"):
        syscalls.unshare(syscalls.CLONE_NEWNET)  # only the owner of the network namespace may mount /sys
    refused: list[str] = []
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
    except OSError as error:
        refused.append(f"PID namespace: {error.strerror}")
    failure = attempts.try_in_child(partial(_make_view, refused))  # the first process of the PID namespace
    if failure is not None:
        raise failure


def _make_view(refused: list[str]) -> None:
    refused += mounts.make_view("probe")
    if refused:
        raise StepError(_VIEW, 0, "\n".join(refused))

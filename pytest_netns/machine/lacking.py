"""What this environment refuses the programs in namespaces, found out before the first of them runs: in a forked child."""

from __future__ import annotations

from functools import partial

from pytest_netns.kernel.programs import mounts
from pytest_netns.kernel.system import diagnosis, syscalls
from pytest_netns.machine import attempts
from pytest_netns.machine.attempts import StepError, step

_VIEW = "view"


def find() -> list[str]:
    """A phrase for each part, of an own PID, mount or host-name view; or the one that there are no network namespaces."""
    failure = attempts.try_in_child(_try)
    if failure is None:
        return []
    if failure.step == _VIEW:
        return failure.words.splitlines()
    return [f"{failure.step}: {diagnosis.explain(failure.step, failure.errno, failure.words)[0]}"]


def _try() -> None:
    with step("network namespace"):
        syscalls.unshare(syscalls.CLONE_NEWNET)  # a fresh /sys is given to the owner of the network namespace only
    lacks = []
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
    except OSError as error:
        lacks.append(f"PID namespace: {error.strerror}")
    failure = attempts.try_in_child(partial(_make_view, lacks))  # the first process of the PID namespace
    if failure is not None:
        raise failure


def _make_view(lacks: list[str]) -> None:
    lacks += mounts.make_view("probe")
    if lacks:
        raise StepError(_VIEW, 0, "\n".join(lacks))

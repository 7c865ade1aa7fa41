"""Pause at a failed test: the commands that enter its namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_netns.kernel.programs import inits
from pytest_netns.kernel.system import privileges, syscalls

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.namespace import Namespace

_OPTIONS = {
    syscalls.CLONE_NEWNS: "--mount",
    syscalls.CLONE_NEWUTS: "--uts",
    syscalls.CLONE_NEWPID: "--pid",
}


def enter_commands(lab: Lab) -> list[str]:
    """For each namespace the command that opens a shell in it, from another terminal of the same user."""
    width = max((len(each.name) for each in lab), default=0)
    return [f"  {each.name:{width}}  {_enter_command(each)}" for each in lab]


def invitation(lab: Lab, test: str) -> str:
    """The message when a failed test is paused."""
    commands = "\n".join(enter_commands(lab)) or "  (it has no namespaces)"
    return f"\n{test} has failed; its network is still up. To enter it from another terminal:\n{commands}\n"


def _enter_command(namespace: Namespace) -> str:
    try:
        init = namespace.programs.spawner().init
    except Exception as error:  # showing the commands must never fail
        return f"(cannot be entered: {error})".splitlines()[0]
    parts = inits.parts_of(init)
    options = ["--net", *(option for part, option in _OPTIONS.items() if parts & part)]
    if privileges.in_own_user_namespace():
        # First, since it gives the privilege to enter the others.
        options = ["--user", "--preserve-credentials", *options]
    return f"nsenter --target {init.pid} {' '.join(options)}"

"""The end of a lab's programs: asked first, all namespaces at once, then killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_netns.errors import NetnsError, fails_as
from pytest_netns.kernel.programs import inits, supervision, sweeping
from pytest_netns.kernel.system.waiting import Patience
from pytest_netns.running import calls, multiprocess, process

if TYPE_CHECKING:
    from pytest_netns.running.programs import LabPrograms, Programs

STOP_GRACE = 0.5  # seconds between SIGTERM and SIGKILL for what still runs when a lab is closed


@fails_as("end the programs of the lab")
def end_processes(lab: LabPrograms, errors: list[Exception]) -> None:
    """End everything that runs in a lab; nothing is started there any more."""
    lab.gate.shut()
    end_programs(lab.members, lab.swept, errors)


def end_programs(members: Sequence[Programs], swept: Mapping[int, sweeping.Beginning], errors: list[Exception]) -> None:
    """SIGTERM to all that runs, and to what it has started; what has not ended in time is killed. Adds what fails to the errors.

    Args:
        members: everything that runs, by namespace.
        swept: the namespaces, by inode, in which every process ends.
    """
    views = [programs.view for programs in members if programs.view is not None]
    processes = [item for programs in members for item in programs.processes]
    running = [item for item in processes if item.poll() is None]
    for item in running:
        item.lab_closes()
    patience = Patience(STOP_GRACE)
    multiprocess.end(swept)
    asked = sweeping.ask_to_end(swept)
    busy = [view for view in views if running or view.has_processes()]
    for view in busy:
        view.ask_to_end()
    for item in running:
        item.has_ended(patience.remaining())
    for view in busy:
        view.ask_to_end()  # an init that has nobody left ends by itself; ours had to be reaped first
        inits.wait_ended(view.init.pidfd, patience.remaining())
    for view in views:
        view.close()
    if not sweeping.end_processes(swept, asked, patience):
        errors.append(NetnsError("cannot end the processes that were started inside: they go on starting others"))
    process.end_all(processes, errors)
    for view in views:
        try:
            view.wait_ended(wait=view in busy)
        except NetnsError as error:
            errors.append(error)
    calls.end_all([item for programs in members for item in programs.calls], patience, errors)


def kill_processes(lab: LabPrograms) -> None:
    """Where ending them in good order failed half-way: leave no init, no thread, no descriptor of a view."""
    supervision.forget_lost()
    for programs in lab.members:
        if programs.view is not None:
            programs.view.discard()


def remove(lab: LabPrograms, programs: Programs, errors: list[Exception]) -> None:
    """End everything that runs in one namespace, which leaves its lab."""
    begun = lab.swept.get(programs.inode)
    try:
        end_programs([programs], {} if begun is None else {programs.inode: begun}, errors)
    finally:
        if programs.view is not None:
            programs.view.discard()
        lab.members.remove(programs)
        lab.entered.pop(programs.inode, None)

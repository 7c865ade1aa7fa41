"""End a lab's programs: SIGTERM in all namespaces at once, then SIGKILL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_netns.errors import NetnsError, fails_as
from pytest_netns.kernel.programs import inits, supervision, sweeping
from pytest_netns.kernel.system.waiting import Deadline
from pytest_netns.running import calls, multiprocess, process

if TYPE_CHECKING:
    from pytest_netns.running.programs import LabPrograms, Programs

STOP_GRACE = 0.5  # seconds between SIGTERM and SIGKILL for processes that still run when a lab is closed


@fails_as("end the programs of the lab")
def end_processes(lab: LabPrograms, errors: list[Exception]) -> None:
    """End everything that runs in a lab; nothing more can be started in it."""
    lab.gate.shut()
    end_programs(lab.members, lab.swept, errors)


def end_programs(
    members: Sequence[Programs], swept: Mapping[int, sweeping.FirstEntry], errors: list[Exception]
) -> None:
    """Send SIGTERM to all programs and their descendants, then kill those still running. Failures are added to ``errors``.

    Args:
        members: everything that runs, by namespace.
        swept: the namespaces, by inode, in which every process is ended.
    """
    views = [programs.view for programs in members if programs.view is not None]
    if not views and not swept and not any(programs.processes or programs.calls for programs in members):
        return
    processes = [item for programs in members for item in programs.processes]
    running = [item for item in processes if item.poll() is None]
    for item in running:
        item.lab_closes()
    deadline = Deadline(STOP_GRACE)
    multiprocess.end(swept)
    terminated = sweeping.terminate(swept)
    busy = [view for view in views if running or view.has_processes()]
    for view in busy:
        view.terminate()
    for item in running:
        item.has_ended(deadline.remaining())
    for view in busy:
        view.terminate()  # an init without processes exits by itself; our own children had to be reaped first
        inits.wait_ended(view.init.pidfd, deadline.remaining())
    for view in views:
        view.close()
    if not sweeping.end_processes(swept, terminated, deadline):
        errors.append(NetnsError("cannot end the processes that were started inside: they keep starting others"))
    process.end_all(processes, errors)
    for view in views:
        try:
            view.wait_ended(wait=view in busy)
        except NetnsError as error:
            errors.append(error)
    calls.end_all([item for programs in members for item in programs.calls], deadline, errors)


def kill_processes(lab: LabPrograms) -> None:
    """Clean up after an orderly end failed: leave no program, no init, no thread, no descriptor of a view."""
    supervision.forget_lost()
    for programs in lab.members:
        if programs.view is not None:
            programs.view.discard()
    running = [item for programs in lab.members for item in programs.processes if item.returncode is None]
    if running:
        process.kill_all(running)


def remove(lab: LabPrograms, programs: Programs, errors: list[Exception]) -> None:
    """End everything that runs in a namespace that is removed from its lab."""
    begun = lab.swept.get(programs.inode)
    try:
        end_programs([programs], {} if begun is None else {programs.inode: begun}, errors)
    finally:
        if programs.view is not None:
            programs.view.discard()
        lab.members.remove(programs)
        lab.entered.pop(programs.inode, None)

"""Many labs in one process: nothing leaks.

By default a limited number; 5,000 labs with ``NETNS_FAULTS=full``. Prints the measurements.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from pytest_netns import Lab
from pytest_netns.kernel.programs import supervision
from pytest_netns.kernel.spaces import destruction, holders
from tests.faults.trial import below
from tests.support import captures

LABS = 5000 if os.environ.get("NETNS_FAULTS") == "full" else 200
WARM = LABS // 10  # labs until caches and Python's memory, which grows in steps, have reached their size
MEMORY = 2048  # KiB of permitted growth afterwards: half a KiB for each lab of a full run


def usage() -> dict[str, int]:
    """The resources of this process, after those of closed labs are gone: namespaces freed, inits reaped."""
    captures.wait_ended()
    hub = destruction.hub()
    hub.wait(destruction.BUSY_GRACE)
    watchdog = supervision.supervisor().pid
    deadline, pause = time.monotonic() + 10, threading.Event()
    while len(below(watchdog)) > 1 and time.monotonic() < deadline:
        pause.wait(0.005)
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "mounts": len(Path("/proc/self/mounts").read_text().splitlines()),
        "processes": len(below(os.getpid())),
        "namespaces": len([watched for watched in hub.alive() if watched.owner == __name__]),
        "memory, KiB": int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]),
    }


def test_steady(capsys: pytest.CaptureFixture[str]) -> None:
    """Many labs with processes: descriptors, threads, memory, mounts, processes and namespaces stay as after the first."""
    seen = {}
    for number in range(1, LABS + 1):
        with Lab(__name__) as lab:
            red = lab.add_namespace("red")
            red.run("true")
            red.popen(["sleep", "1000"])
            with red:
                pass
        if number in (WARM, LABS):
            seen[number] = usage()
    with capsys.disabled():
        for number, used in seen.items():
            print(f"\n| after {number} labs | {', '.join(f'{value} {name}' for name, value in used.items())} |")
    grown = seen[LABS].pop("memory, KiB") - seen[WARM].pop("memory, KiB")
    left = [
        f"{each.name}, closed {time.monotonic() - (each.closed or 0):.0f} s ago: {holders.find(each.inode)}"
        for each in destruction.hub().alive()
    ]
    assert seen[LABS] == seen[WARM], left
    assert seen[LABS]["namespaces"] == 0, left
    assert grown < MEMORY

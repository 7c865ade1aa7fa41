"""Lab after lab in one process: everything that could leak stays as it was.

Bounded by default; 5,000 labs with ``NETNS_FAULTS=full``. Prints what it has seen.
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
WARM = LABS // 10  # labs until memory, which Python takes in pieces, and caches are what they are going to be
MEMORY = 2048  # KiB that may come to it afterwards: half a KiB a lab, were it a leak of the whole run


def usage() -> dict[str, int]:
    """What this process uses, once what closed labs had is gone: their namespaces freed, their inits reaped."""
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

"""An exception from a signal handler at every call of a test's actions, one after the other.

By default a sample of the points; all of them with ``NETNS_FAULTS=full``. Each test prints its row of the table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FULL = os.environ.get("NETNS_FAULTS") == "full"
ACTIONS = [
    "enter",
    "sysctl",
    "socket",
    "server",
    "add_namespace",
    "add_veth",
    "capture",
    "run",
    "first run",
    "start",
    "call",
    "route",
    "close",
]
STEP = 1 if FULL else 47
LIMIT = 3600 if FULL else 120  # seconds


@pytest.mark.parametrize("action", ACTIONS)
def test_signal_handler_raises(action: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """The thread is in its own network, nothing remains or hangs, and programs of the next lab run in their namespaces."""
    mode = "rootless" if request.config.getoption("netns_mode") == "rootless" else "root"
    if mode == "root" and os.geteuid() != 0:
        mode = "rootless"
    first = 1 + ACTIONS.index(action) % STEP  # not the same points in the common part of all actions
    argv = [sys.executable, str(HERE / "interrupting.py"), mode, action, str(first), str(STEP)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        tried = f"{result['tried']} of {result['calls']} calls"
        print(f"\n| SIGALRM raises in {action}, {mode} | {tried} | {len(result['wrong'])} wrong |", flush=True)
    assert result["tried"]
    assert not result["wrong"]

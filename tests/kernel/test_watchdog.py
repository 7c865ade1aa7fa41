"""Pytest is killed: its watchdog learns pytest's namespaces from the kernel, and spares all others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pytest_netns.kernel.programs import inits

# Writes the PIDs of a program moved into a namespace by hand, and of a forked copy outside that only holds it; dies.
VICTIM = """
import os, signal, subprocess, time
from pytest_netns import Lab
lab = Lab()
red = lab.add_namespace("red")
lab.add_namespace("blue").run("true")
target = f"/proc/{os.getpid()}/fd/{red._kernel.fd}"
moved = subprocess.Popen(["nsenter", f"--net={target}", "sleep", "1000"])
while os.stat(f"/proc/{moved.pid}/ns/net").st_ino != red._kernel.inode:
    time.sleep(0.01)
copy = os.fork()
if copy == 0:
    time.sleep(1000)
print(moved.pid, copy, flush=True)
time.sleep(1000)
"""
# The same program, in a foreign network namespace, with a descriptor of it.
STRANGER = """
import os, time
from pytest_netns.kernel.system import syscalls
syscalls.unshare(syscalls.CLONE_NEWNET)
held = os.open("/proc/self/ns/net", os.O_RDONLY)
print(flush=True)
time.sleep(1000)
"""


@contextmanager
def python(script: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program, killed at the end."""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    """Wait until it has written a line."""
    assert process.stdout is not None
    return process.stdout.readline()


def test_only_what_is_in_or_holds_pytests_namespaces() -> None:
    """A process moved into a namespace without the plugin's knowledge and a forked copy outside end; a foreign one survives."""
    with python(STRANGER) as stranger, python(VICTIM) as victim, ExitStack() as stack:
        first_line(stranger)
        pidfds = [os.pidfd_open(int(pid)) for pid in first_line(victim).split()]
        for pidfd in pidfds:
            stack.callback(os.close, pidfd)
            stack.callback(inits.kill, pidfd, signal.SIGKILL)
        victim.kill()
        assert [inits.wait_ended(pidfd, 10) for pidfd in pidfds] == [True, True]
        assert stranger.poll() is None

"""The victim of the system-call trials: sets up and tears down a lab once, and reports the result on standard error.

Usage: driver.py MODE TARGET   (TARGET: ``owner``, this process, which has not done anything before; ``supervisor``, which
already runs; or ``start of supervisor``, which is started by the program FAULTS_PYTHON)
"""

import codecs
import contextlib
import ctypes
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path

if sys.argv[1] == "rootless":
    from pytest_netns.machine import rootless

    rootless.enter()

import pytest_netns.faults.wire  # noqa: F401  what is imported at the first impaired link
from pytest_netns import Lab, NetnsError
from pytest_netns.kernel.programs import supervision
from pytest_netns.kernel.spaces import destruction
from tests.faults.announce import tell

_PR_SET_PTRACER = 0x59616D61


def work() -> str:
    """Do everything a test does: build, run, stay inside, end; returns what went wrong."""
    lab = Lab("trial", engine="userspace")
    outcome = "fine"
    try:
        red, blue = lab.add_namespace("red"), lab.add_namespace("blue")
        link = lab.add_veth(red, blue, addresses=("192.168.15.1/24", "192.168.15.2/24"))
        link.a.impair(delay="1ms")
        red.run("true")
        blue.popen(["sleep", "1000"])
        with red:
            pass
        red.start(["sleep", "1000"])
    except BaseException as error:
        outcome = describe(error)
    try:
        lab.close()
    except BaseException as error:
        outcome += f" | closing: {describe(error)}"
    return outcome


def describe(error: BaseException) -> str:
    """Format an error; one that does not name its step is shown with its traceback."""
    text = f"{type(error).__name__}: {str(error)[:300]}"
    if isinstance(error, NetnsError) or (isinstance(error, OSError) and error.filename is not None):
        return f"named: {text}"
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    return f"UNNAMED: {text} at {' '.join(places)}"


def main() -> None:
    if sys.argv[2] == "supervisor":
        supervision.supervisor().wait_ready()
    python = sys.executable
    if sys.argv[2] == "start of supervisor":
        sys.executable = os.environ["FAULTS_PYTHON"]
    codecs.lookup("ascii")  # the only module that would otherwise be imported later
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, -1, 0, 0, 0)
    connection = tell("ready")
    with contextlib.suppress(OSError):
        connection.recv(1)
    connection.close()
    outcome = work()
    for _ in range(2):  # the refusal may hit this
        with contextlib.suppress(OSError):
            tell("over").recv(1)  # the injection has been removed
            break
    if sys.executable != python:
        sys.executable = python
        supervision.close()  # the next one starts without the injection
    left = settle()
    later = work()
    left += settle()
    result = {"outcome": outcome, "left": left, "later": later, "descriptors": len(os.listdir("/proc/self/fd"))}
    sys.stderr.write(f"RESULT {json.dumps(result)}\n")
    sys.stderr.flush()


def settle() -> list[str]:
    """Wait until the lab is gone; returns what remains."""
    deadline = time.monotonic() + 5
    hub = destruction.hub()
    hub.wait(deadline)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("netns-")]
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    left = [f"namespace {watched.name}" for watched in hub.alive()]
    return left + [thread.name for thread in threads if thread.is_alive()]


main()

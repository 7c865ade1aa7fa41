"""The victim of the system-call trials: sets up and tears down a lab once, and says how that went, on standard error.

Usage: driver.py MODE TARGET   (TARGET: ``owner``, this process, or ``supervisor``)
"""

import contextlib
import ctypes
import json
import os
import sys
import threading
import time

if sys.argv[1] == "rootless":
    from pytest_netns.kernel import rootless

    rootless.enter()

from pytest_netns import Lab, NetnsError
from pytest_netns.kernel import destruction, supervision
from tests.faults.announce import tell

_PR_SET_PTRACER = 0x59616D61


def work() -> str:
    """Everything a test does: build, run, stay inside, end; what went wrong."""
    lab = Lab("trial")
    outcome = "fine"
    try:
        red, blue = lab.add_namespace("red"), lab.add_namespace("blue")
        lab.add_veth(red, blue, addresses=("192.168.15.1/24", "192.168.15.2/24"))
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
    """An error; its kind says whether it names its step."""
    named = isinstance(error, NetnsError) or (isinstance(error, OSError) and bool(error.strerror))
    return f"{'named' if named else 'UNNAMED'}: {type(error).__name__}: {str(error)[:300]}"


def main() -> None:
    work() if sys.argv[2] == "owner" else None  # imports, the hub and the supervisor are there
    supervision.supervisor().lacks  # noqa: B018
    settle()
    before = len(os.listdir("/proc/self/fd"))
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, -1, 0, 0, 0)
    connection = tell("ready")
    connection.recv(1)
    connection.close()
    outcome = work()
    with contextlib.suppress(OSError):
        tell("over").recv(1)  # the injection has been taken away
    left = settle()
    after = len(os.listdir("/proc/self/fd"))
    later = work()
    left += settle()
    result = {"outcome": outcome, "left": left, "descriptors": after - before, "later": later}
    sys.stderr.write(f"RESULT {json.dumps(result)}\n")
    sys.stderr.flush()


def settle() -> list[str]:
    """Wait until the lab is gone; what is left of it after all."""
    hub = destruction.hub()
    hub.wait(time.monotonic() + 5)
    left = [f"namespace {watched.name}" for watched in hub.alive()]
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("netns-")]
    return left + threads


main()

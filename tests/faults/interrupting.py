"""The victim of the interruption trials: a SIGALRM whose handler raises, at the n-th function call of an action.

Usage: interrupting.py MODE ACTION FIRST STEP   (the points tried are FIRST, FIRST + STEP ... up to the last one)
Writes a line of JSON: the number of points tried, and the problems at each.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

if sys.argv[1] == "rootless":
    from pytest_netns.machine import rootless

    rootless.enter()

from pytest_netns import Lab, Namespace
from pytest_netns.kernel.programs import supervision
from pytest_netns.kernel.spaces import destruction, moving, netns

PATIENCE = 60.0  # seconds after which a trial counts as hung
PUT_OFF = 0.05  # seconds within which a postponed signal arrives again
TRACED = ("pytest_netns", "contextlib.py", "threading.py", "subprocess.py")


class Hit(BaseException):
    """The exception that the handler raises."""


def handler(number: int, frame: FrameType | None) -> None:
    raise Hit


class Injector:
    """A trace function that sends the signal at the n-th call."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.seen = 0
        self.place = ""

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if self.place or not any(each in frame.f_code.co_filename for each in TRACED):
            return
        self.seen += 1
        if self.seen == self.at:
            self.place = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_code.co_name}:{frame.f_lineno}"
            signal.raise_signal(signal.SIGALRM)


def enter(lab: Lab, red: Namespace, blue: Namespace) -> None:
    with red, blue:
        pass


def capture(lab: Lab, red: Namespace, blue: Namespace) -> None:
    with lab.capture():
        pass


ACTIONS: dict[str, Callable[[Lab, Namespace, Namespace], object]] = {
    "enter": enter,
    "sysctl": lambda lab, red, blue: red.sysctl("net.ipv4.ip_forward"),
    "socket": lambda lab, red, blue: red.socket().close(),
    "server": lambda lab, red, blue: red.create_server(("", 80)).close(),
    "add_namespace": lambda lab, red, blue: lab.add_namespace("third"),
    "add_veth": lambda lab, red, blue: lab.add_veth(red, blue, names=("a", "b")),
    "capture": capture,
    "run": lambda lab, red, blue: red.run("true"),
    "first run": lambda lab, red, blue: blue.run("true"),
    "start": lambda lab, red, blue: red.start(["sleep", "1000"]),
    "call": lambda lab, red, blue: red.call(int),
    "route": lambda lab, red, blue: red.add_default_route(via="blue"),
    "close": lambda lab, red, blue: lab.close(),
}


def descriptors() -> int:
    """The number of open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def threads() -> list[str]:
    """The names of the plugin's threads that belong to a lab."""
    return [each.name for each in threading.enumerate() if each.name.startswith(("netns-spawn", "netns-call"))]


def act(lab: Lab, action: Callable[..., object], injector: Injector) -> list[str]:
    """Run an action, interrupted; returns the problems."""
    wrong = []
    red, blue = lab.add_namespace("red"), lab.add_namespace("blue")
    lab.add_veth(red, blue, addresses=("10.0.0.1/24", "10.0.0.2/24"))
    red.run("true")
    place = moving.current_inode()
    signal.signal(signal.SIGALRM, handler)
    try:
        try:
            sys.settrace(injector)
            try:
                action(lab, red, blue)
            finally:
                sys.settrace(None)
        finally:
            if injector.place:
                time.sleep(PUT_OFF)
    except Hit:
        pass
    except Exception as error:
        if injector.place == "":
            wrong.append(f"failed without a signal: {error!r}")
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
    if moving.current_inode() != place:
        wrong.append("wrong network")
        moving.leave_to(0)
        netns.go_home()
    return wrong


def trial(action: Callable[..., object], injector: Injector) -> list[str]:
    """Try one point; returns the problems at it and after it."""
    before = descriptors()
    lab = Lab("trial")
    wrong = act(lab, action, injector)
    lab.close()
    del lab
    gc.collect()
    hub = destruction.hub()
    hub.wait(5)
    wrong += [f"namespace {each.name} left" for each in hub.alive()]
    deadline, pause = time.monotonic() + 5, threading.Event()
    while (threads() or descriptors() > before) and time.monotonic() < deadline:
        pause.wait(0.002)
    wrong += [f"thread {name} left" for name in threads()]
    if descriptors() > before:
        wrong.append(f"{descriptors() - before} descriptors left")
    return wrong


def next_lab() -> list[str]:
    """Whether programs of a later lab run in the right namespace."""
    with Lab("next") as lab:
        for name in ("red", "blue"):
            namespace: Any = lab.add_namespace(name)
            there = namespace.run(["readlink", "/proc/self/ns/net"]).stdout.strip()
            if there != f"net:[{namespace.programs.inode}]":
                return [f"a program of {name} in another network"]
    return []


def main() -> None:
    action = ACTIONS[sys.argv[2]]
    point, step = int(sys.argv[3]), int(sys.argv[4])
    for _ in range(3):  # what is created once per process
        trial(action, Injector(0))
    found: dict[str, list[str]] = {}
    tried = 0
    while True:
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        injector = Injector(point)
        wrong = trial(action, injector) + next_lab()
        if not injector.place:
            break
        tried += 1
        if wrong:
            found[f"{point} {injector.place}"] = wrong
        point += step
    faulthandler.cancel_dump_traceback_later()
    supervision.close()
    sys.stdout.write(json.dumps({"tried": tried, "calls": injector.seen, "wrong": found}) + "\n")


main()

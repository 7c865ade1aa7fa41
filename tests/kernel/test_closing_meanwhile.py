"""A lab that one thread closes while another uses it: the user gets an error, nothing hangs, nothing remains."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
from collections.abc import Callable

import pytest

from pytest_netns import Lab, LabClosedError, Namespace
from pytest_netns.kernel.spaces import destruction

TRIALS = 6  # the lab is closed at a different moment in each
LONGEST = 30  # seconds; nothing here takes that long unless it hangs


def _socket_name(red: Namespace) -> None:
    with (
        red,
        contextlib.suppress(socket.gaierror),
    ):  # once it is closed during the block, nothing resolves the name
        socket.gethostbyname("red")


USES: dict[str, Callable[[Lab, Namespace, int], object]] = {
    "run": lambda lab, red, number: red.run(["true"]),
    "popen": lambda lab, red, number: red.popen(["sleep", "1000"]),
    "start": lambda lab, red, number: red.start(["sleep", "1000"]),
    "call": lambda lab, red, number: red.call(int),
    "names": lambda lab, red, number: _socket_name(red),
    "add_namespace": lambda lab, red, number: lab.add_namespace(f"n{number}"),
    "add_veth": lambda lab, red, number: lab.add_veth(red, lab["blue"], names=(f"a{number}", f"b{number}")),
    "sysctl": lambda lab, red, number: red.sysctl("net.ipv4.ip_forward", number % 2),
}


def _use_until_closed(lab: Lab, use: Callable[[Lab, Namespace, int], object], begun: threading.Event) -> BaseException:
    """Use it repeatedly; returns what ended that."""
    red = lab["red"]
    for number in range(100_000):
        begun.set()
        try:
            use(lab, red, number)
        except BaseException as error:
            return error.with_traceback(None)
    raise AssertionError("the lab was never closed")


def _close_meanwhile(use: Callable[[Lab, Namespace, int], object]) -> BaseException:
    lab = Lab("closed meanwhile")
    lab.add_namespace("blue")
    lab.add_namespace("red").run(["true"])
    begun, outcome = threading.Event(), list[BaseException]()
    user = threading.Thread(target=lambda: outcome.append(_use_until_closed(lab, use, begun)), daemon=True)
    user.start()
    begun.wait(LONGEST)
    threading.Event().wait(random.uniform(0, 0.004))
    lab.close()
    user.join(LONGEST)
    assert not user.is_alive(), "it hangs"
    return outcome[0]


@pytest.mark.parametrize("name", USES)
def test_the_thread_that_uses_it_gets_an_error(name: str) -> None:
    """Any use by another thread of a lab that is closed ends with "its lab is closed"; no thread, descriptor or namespace remains."""
    with Lab() as lab:
        first = lab.add_namespace("first")  # creates what all labs share
        first.run(["true"])
        first.call(int)
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(TRIALS):
        outcome = _close_meanwhile(USES[name])
        assert isinstance(outcome, LabClosedError), repr(outcome)
        assert "closed" in str(outcome)
        del outcome
    destruction.hub().wait(LONGEST)
    assert not destruction.hub().alive()
    assert threading.active_count() <= threads  # a thread of something else may have ended
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_a_second_close_waits_for_the_first() -> None:
    """A thread that closes a lab which another thread is closing returns only once it is closed."""
    lab = Lab("twice")
    stubborn = lab.add_namespace("red").popen(
        ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], stdout=-1
    )
    assert stubborn.stdout
    assert stubborn.stdout.readline() == "up\n"
    first = threading.Thread(target=lab.close)
    first.start()
    while not lab.closed:
        threading.Event().wait(0.001)
    lab.close()
    assert stubborn.returncode is not None
    first.join(LONGEST)


def test_a_program_under_way_ends_with_its_lab() -> None:
    """`run` of an endless program in another thread ends together with the lab, and gives the reason."""
    lab = Lab("under way")
    red = lab.add_namespace("red")
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            red.run(["sh", "-c", "sleep 1000; echo never"])
        except BaseException as error:
            outcome.append(error)

    user = threading.Thread(target=run, daemon=True)
    user.start()
    lab.wait_until(lambda: red.programs.processes)
    lab.close()
    user.join(LONGEST)
    assert isinstance(outcome[0], LabClosedError), repr(outcome)

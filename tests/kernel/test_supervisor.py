"""The supervisor: its parent, interrupted requests to it, and the error if it cannot start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_netns import Lab, NetnsError
from pytest_netns.kernel.programs import supervision
from tests.faults.trial import children
from tests.support.processes import eventually


class Interrupted(BaseException):
    """An exception that a signal handler may raise anywhere."""


def inits() -> list[int]:
    """The PIDs of all inits of this process."""
    (supervisor,) = children(supervision.supervisor().pid)
    return children(supervisor)


@pytest.mark.parametrize("when", ["before the answer is read", "after the answer has been read"])
def test_an_answer_that_was_lost_is_never_anothers(netns: Lab, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """After an exception while pytest waits for an init, every later program runs in its own namespace, and the lost init is ended."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    supervision.supervisor().wait_ready()
    before = set(inits())
    recv_fds = socket.recv_fds

    def interrupted(sock: socket.socket, size: int, most: int, flags: int = 0) -> object:
        monkeypatch.undo()
        if when.startswith("after"):
            for descriptor in recv_fds(sock, size, most, flags)[1]:
                os.close(descriptor)
        raise Interrupted

    monkeypatch.setattr(socket, "recv_fds", interrupted)
    with pytest.raises(Interrupted):
        red.run("true")
    for namespace in (blue, red):
        there = namespace.run(["sh", "-c", "readlink /proc/self/ns/net; hostname"]).stdout.split()
        assert there == [f"net:[{namespace.programs.inode}]", namespace.name]
    eventually(lambda: len(set(inits()) - before) == 2, "the init that was lost has ended")


def test_a_closed_lab_leaves_no_init_that_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without another request, the lost init ends with its lab, and keeps no namespace alive."""
    supervision.supervisor().wait_ready()
    before = set(inits())

    def interrupted(*arguments: object) -> object:
        monkeypatch.undo()
        raise Interrupted

    with Lab() as lab:
        red = lab.add_namespace("red")
        monkeypatch.setattr(socket, "recv_fds", interrupted)
        with pytest.raises(Interrupted):
            red.run("true")
        eventually(lambda: set(inits()) - before, "the init is made all the same")
    eventually(lambda: not set(inits()) - before, "the init that was lost has ended")


WAITS = """
import os
from pytest_netns import Lab

with Lab() as lab:
    lab.add_namespace("red").run("true")
    for _ in range(2):
        if os.fork() == 0:
            os._exit(0)
    ended = 0
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
        ended += 1
    assert lab["red"].run("hostname").stdout == "red\\n"
print(ended)
"""


def test_waiting_for_all_children_ends() -> None:
    """A program that waits for all of its children, like a forking server, finds only its own."""
    done = subprocess.run([sys.executable, "-c", WAITS], capture_output=True, text=True, timeout=60)
    assert done.stdout == "2\n", done.stderr


def start_with(monkeypatch: pytest.MonkeyPatch, directory: Path, script: str) -> None:
    """Make a shell script start the next supervisor."""
    python = directory / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    supervision.close()
    monkeypatch.setattr(sys, "executable", str(python))


def test_a_dead_supervisors_output_is_shown(netns: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a supervisor cannot start, for example because of a missing library, the error has its exit status and output."""
    start_with(monkeypatch, tmp_path, "echo 'libpython3.so: cannot open shared object file' >&2; exit 127")
    with pytest.raises(NetnsError, match=r"exit status 127: libpython3\.so: cannot open shared object file"):
        netns.add_namespace("red").run("true")
    monkeypatch.undo()
    assert netns["red"].run("hostname").stdout == "red\n"


def test_a_supervisor_that_another_thread_has_dismissed() -> None:
    """Users of the old one get an error that it has died."""
    supervisor = supervision.Supervisor()
    supervisor.wait_ready()
    supervisor.close()
    assert not supervisor.is_alive()
    with pytest.raises(NetnsError, match="cannot start processes: the supervisor process"):
        supervisor.wait_ready()


def test_environment_of_the_supervisor(netns: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the variables that the system's loader needs to find Python's libraries, and none for pytest's Python."""
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    monkeypatch.setenv("COVERAGE_PROCESS_START", "/nowhere")
    start_with(monkeypatch, tmp_path, f'env >{tmp_path}/environment; exec {sys.executable} "$@"')
    assert netns.add_namespace("red").run("hostname").stdout == "red\n"
    names = {line.partition("=")[0] for line in (tmp_path / "environment").read_text().splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"LD_LIBRARY_PATH"}
    supervision.close()  # the next one is started by Python itself


def forked(work: Callable[[], object]) -> int:
    """The exit status of a forked child that ran a function."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_that_closes_the_lab_ends_nothing(netns: Lab) -> None:
    """Programs, services and other processes of the parent keep running, and so do those it starts later."""
    red = netns.add_namespace("red")
    program = red.popen(["sleep", "1000"])
    service = red.start([sys.executable, "-m", "http.server", "80"], ready=80)
    with red:
        beside = subprocess.Popen(["sleep", "1000"])
    assert forked(netns.close) == 0
    with netns.capture() as packets:
        assert "200 OK" in red.run("curl -sI http://red/").stdout
    assert packets
    assert (program.poll(), service.poll(), beside.poll()) == (None, None, None)
    beside.kill()
    beside.wait()


def test_a_forked_child_runs_its_own_programs(netns: Lab) -> None:
    """A child can use its parent's namespaces: what it starts there ends when it closes the lab, the parent's processes do not."""
    red = netns.add_namespace("red")
    program = red.popen(["sleep", "1000"])
    with red:
        beside = subprocess.Popen(["sleep", "1000"])

    def work() -> None:
        assert red.run("hostname").stdout == "red\n"
        own = red.popen(["sleep", "1000"])
        with red:
            pass
        netns.close()
        assert own.poll() is not None

    assert forked(work) == 0
    assert (program.poll(), beside.poll()) == (None, None)
    beside.kill()
    beside.wait()

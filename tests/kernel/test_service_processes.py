"""All processes of a service end, pause and resume with it; other processes are left alone."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_netns import Lab, Namespace, Service
from pytest_netns.kernel.spaces import listening
from pytest_netns.kernel.system import process_table, procfs

HTTP = f"{sys.executable} -m http.server 80"
# The command lines of a shell that does not pass SIGTERM on to its children.
WRAPPED = {"in front": f"cd /tmp && {HTTP}; true", "behind": f"{HTTP} & wait", "in a pipe": f"{HTTP} | cat; true"}
DAEMON = "setsid sh -c 'exec {command}' >/dev/null 2>&1 </dev/null & exit 0"
STUBBORN = "trap '' TERM; while :; do sleep 1000; done"


@pytest.fixture
def red() -> Iterator[Namespace]:
    with Lab("services") as lab:
        yield lab.add_namespace("red")


def listeners(namespace: Namespace) -> list[int]:
    """The TCP ports that are open in a namespace now."""
    return [each.port for each in listening.listening(namespace.programs.network, "tcp")]


def running(namespace: Namespace, command: str) -> list[int]:
    """PIDs of the processes in a namespace with this command line, except zombies."""
    found = []
    for pid in procfs.pids():
        try:
            inside = procfs.network_namespace(pid) == namespace.programs.inode
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        if inside and line == command:
            found.append(pid)
    return found


def run_daemon(namespace: Namespace, command: str) -> None:
    """Put a program into the background, by a shell that exits before it."""
    namespace.run(DAEMON.format(command=command), shell=True)
    namespace.lab.wait_until(lambda: running(namespace, command), timeout=30)


def states(service: Service) -> set[str]:
    """The states of all processes of a service, as proc_pid_stat(5) writes them."""
    return {each.state for pid in service.family.pids() if (each := process_table.stat(pid))}


@pytest.mark.parametrize("how", WRAPPED)
def test_stop_ends_what_a_wrapper_has_started(red: Namespace, how: str) -> None:
    """After `stop` and after the `with` block nothing of the service runs, and its port is free at once."""
    service = red.start(WRAPPED[how], shell=True, ready=80)
    service.stop()
    assert listeners(red) == []
    with red.start(WRAPPED[how], shell=True, ready=80):
        assert listeners(red) == [80]
    assert listeners(red) == []


@pytest.mark.parametrize("how", WRAPPED)
def test_restart_finds_the_port_free(red: Namespace, how: str) -> None:
    """A wrapped service is ready on the same port again, as a new process."""
    second = red.start(WRAPPED[how], shell=True, ready=80).restart()
    assert second.poll() is None
    assert listeners(red) == [80]


def test_stop_ends_a_daemon(red: Namespace) -> None:
    """A program that has put itself into the background is still the service, and `stop` ends it."""
    service = red.start(DAEMON.format(command=HTTP), shell=True, ready=80)
    assert service.wait() == 0
    assert not service.died
    service.stop()
    assert listeners(red) == []


def test_a_daemon_that_comes_up_late(red: Namespace) -> None:
    """Without a condition, processes that the program leaves behind when it exits with 0 are its daemons."""
    service = red.start(f"sleep 0.05; {DAEMON.format(command='sleep 1001')}", shell=True)
    red._lab.wait_until(lambda: running(red, "sleep 1001"))
    assert service.wait() == 0
    service.stop()
    assert running(red, "sleep 1001") == []


def test_another_program_s_daemon_is_left_alone(red: Namespace) -> None:
    """Daemons of other programs, started before and after, keep running."""
    run_daemon(red, "sleep 1001")
    first = red.start(DAEMON.format(command=HTTP), shell=True, ready=80)
    second = red.start(["sleep", "1003"])
    run_daemon(red, "sleep 1002")
    first.stop()
    second.stop()
    assert listeners(red) == []
    assert len(running(red, "sleep 1001")) == len(running(red, "sleep 1002")) == 1


def test_children_that_refuse_are_killed(red: Namespace) -> None:
    """A child that ignores SIGTERM gets SIGKILL after the timeout, even if the program itself has exited at once."""
    service = red.start(f'sh -c "{STUBBORN}" & echo up; wait', shell=True, ready=re.compile("up"))
    assert service.stop(timeout=0.1) == -signal.SIGTERM
    assert running(red, "sleep 1000") == []


def test_kill_leaves_nothing_and_is_no_death(red: Namespace) -> None:
    """`kill` ends all of it at once; a service that the test has killed has not died."""
    service = red.start(WRAPPED["behind"], shell=True, ready=80)
    service.kill()
    assert service.returncode == -signal.SIGKILL
    assert listeners(red) == []
    assert not service.died


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_of_the_test_s_own_is_no_death(red: Namespace, number: signal.Signals) -> None:
    """A test that sends a signal which ends programs intends the service to end."""
    service = red.start(["sleep", "1000"])
    service.send_signal(number)
    assert service.wait() == -number
    assert not service.died


def test_pause_and_resume(red: Namespace) -> None:
    """While it is paused all of it is stopped and nothing answers; afterwards it answers again, on the same connections."""
    service = red.start(WRAPPED["behind"], shell=True, ready=80)
    fetch = "curl -sS -o /dev/null -m {seconds} http://127.0.0.1/"
    service.pause()
    assert states(service) == {"T"}
    assert (
        red.run(fetch.format(seconds=0.3), check=False).returncode == 28
    )  # timed out: the kernel accepts the connection, but nothing answers
    service.resume()
    assert "T" not in states(service)
    red.run(fetch.format(seconds=10))
    with service.pause():
        assert states(service) == {"T"}
    assert "T" not in states(service)
    assert service.paused is None


def test_a_pause_is_shown_and_healed(red: Namespace) -> None:
    """Drawings and reports show paused services; healing the lab resumes them; a paused service can be stopped."""
    service = red.start(["sleep", "1000"])
    service.pause()
    service.pause()
    assert [note.text for note in red._lab.notes.collect()] == ["sleep 1000 is paused"]
    red._lab.heal()
    assert "T" not in states(service)
    assert red._lab.notes.collect() == []
    service.pause()
    assert service.stop() == -signal.SIGTERM
    assert red._lab.notes.collect() == []

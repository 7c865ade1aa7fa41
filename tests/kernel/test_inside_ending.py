"""Processes that Python code starts inside a block are not children of the namespace's init; they end with the lab too."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from pytest_netns import Lab
from tests.support.processes import command_of, pids

GONE_AFTER = 10  # seconds for a killed process to disappear

# Forks and ends repeatedly, ignoring SIGTERM, until a file is gone; each process first writes its PID there.
CHAIN = """
import os, signal, sys, time
trace, pause = sys.argv[1], float(sys.argv[2])
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.setsid()
end = time.monotonic() + 30
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    descriptor = os.open(trace, os.O_WRONLY | os.O_TRUNC)
    os.write(descriptor, str(os.getpid()).encode())
    os.close(descriptor)
    time.sleep(pause)
"""


def python(script: str, *arguments: object) -> list[str]:
    """argv of a Python script."""
    return [sys.executable, "-I", "-S", "-c", textwrap.dedent(script), *map(str, arguments)]


def sleep(seconds: int) -> str:
    """The command of a long sleep that no other process on the machine has."""
    return f"sleep {seconds}.{os.getpid()}"


def children_of_this_thread() -> list[int]:
    """Its children, proc_pid_task_children(5)."""
    return [int(pid) for pid in Path("/proc/thread-self/children").read_text().split()]


def is_alive(command: str) -> bool:
    """Whether a process with this command line is alive on the machine."""
    return command in map(command_of, pids())


def test_a_program_that_starts_another_when_it_is_asked_to_end(tmp_path: Path) -> None:
    """Processes started in response to SIGTERM, and those left behind by their parent, are ended too."""
    up = tmp_path / "up"
    with Lab() as lab:
        with lab.add_namespace("red"):
            script = f"trap '{sleep(1004)} & exit 0' TERM; touch {up}; while :; do sleep 0.02; done"
            program = subprocess.Popen(["sh", "-c", script])
        lab.wait_until(up.exists)
    assert program.wait(GONE_AFTER) == 0
    assert not is_alive(sleep(1004))


@pytest.mark.parametrize("pause", [0, 0.001, 0.01])
def test_a_chain_of_processes(tmp_path: Path, pause: float) -> None:
    """A process that forks and ends too fast to be seen is ended too."""
    trace = tmp_path / "trace"
    trace.touch()
    with Lab() as lab:
        with lab.add_namespace("red"):
            subprocess.run(python(CHAIN, trace, pause), check=True)
        lab.wait_until(trace.read_text)
    last = trace.read_text()
    for _ in range(20):
        subprocess.run(["true"], check=True)  # as long as a few of its generations
    assert trace.read_text() == last


def test_a_child_in_a_new_network_namespace(tmp_path: Path) -> None:
    """If a program inside starts one in another network namespace, that ends with its parent."""
    up = tmp_path / "up"
    with Lab() as lab:
        with lab.add_namespace("red"):
            script = f"unshare --net sh -c 'touch {up}; exec {sleep(1005)}' & wait"
            program = subprocess.Popen(["sh", "-c", script])
        lab.wait_until(up.exists)
        lab.wait_until(lambda: is_alive(sleep(1005)))
    program.wait(GONE_AFTER)
    assert not is_alive(sleep(1005))


@pytest.mark.parametrize("how", ["block", "call"])
@pytest.mark.parametrize("deaf", [False, True])
def test_a_program_that_has_created_a_network_namespace(how: str, deaf: bool) -> None:
    """Processes that Python code starts inside and that move to a new network namespace end with the lab, even if they ignore SIGTERM."""
    trap = "trap '' TERM; " if deaf else ""
    argv = ["unshare", "--net", "sh", "-c", f"{trap}{sleep(1007)} & while :; do wait; done"]
    with Lab() as lab:
        red = lab.add_namespace("red")
        if how == "block":
            with red:
                program = subprocess.Popen(argv, start_new_session=True)
        else:
            program = red.call(subprocess.Popen, argv, start_new_session=True)
        lab.wait_until(lambda: is_alive(sleep(1007)))
    assert program.wait(GONE_AFTER) == (-9 if deaf else -15)
    assert not is_alive(sleep(1007))


def test_a_program_that_was_started_outside_is_left_alone() -> None:
    """Processes started outside, in a new network namespace or not, before or meanwhile, survive the lab."""
    argv = ["unshare", "--net", "sleep", "1008"]
    programs = [subprocess.Popen(argv), subprocess.Popen(["sleep", "1009"])]
    try:
        with Lab() as lab:
            red = lab.add_namespace("red")
            with red:
                subprocess.run(["true"], check=True)
            programs += [subprocess.Popen(argv), subprocess.Popen(["sleep", "1009"])]
            red.run(["true"])  # by a thread of this process, which is inside
            with red:
                inside = subprocess.Popen(["sleep", "1010"])
        assert inside.wait(GONE_AFTER) == -15
        assert [program.poll() for program in programs] == [None] * 4
    finally:
        for program in programs:
            program.kill()
            program.wait()


def test_a_program_of_a_thread_that_ends_inside() -> None:
    """A program that another thread has started outside survives, although it becomes a child of the thread inside."""
    argv = ["unshare", "--net", "sleep", "1011"]
    programs: list[subprocess.Popen[bytes]] = []
    started, end = threading.Event(), threading.Event()

    def start() -> None:
        programs.append(subprocess.Popen(argv))
        started.set()
        end.wait()

    thread = threading.Thread(target=start)
    thread.start()
    started.wait()
    try:
        with Lab() as lab:
            time.sleep(0.05)  # the kernel gives start times in 1/100 s
            with lab.add_namespace("red"):
                end.set()
                thread.join()
                lab.wait_until(lambda: programs[0].pid in children_of_this_thread())
        assert programs[0].poll() is None
    finally:
        programs[0].kill()
        programs[0].wait()


def test_a_program_started_beside_many_others() -> None:
    """Of many children, those started inside are ended, also in a new network namespace, and no other."""
    outside = [subprocess.Popen(["sleep", "1012"]) for _ in range(60)]
    argv = ["unshare", "--net", "sleep", f"1013.{os.getpid()}"]
    try:
        with Lab() as lab:
            with lab.add_namespace("red"):
                inside = subprocess.Popen(argv, start_new_session=True)
            lab.wait_until(lambda: is_alive(f"sleep 1013.{os.getpid()}"))
        assert inside.wait(GONE_AFTER) == -15
        assert {program.poll() for program in outside} == {None}
    finally:
        for program in outside:
            program.kill()
            program.wait()


@pytest.mark.parametrize("change", ["os.close(kept)", "os.dup2(os.open('/etc/passwd', os.O_RDONLY), kept)"])
def test_a_program_started_after_other_code_has_closed_our_descriptors(change: str) -> None:
    """The list of children is opened again if its descriptor was closed, or is another file's by now."""
    script = f"""
    import os, subprocess
    from pytest_netns import Lab

    with Lab() as lab:
        red = lab.add_namespace("red")
        with red:
            pass
        targets = {{number: os.readlink(f"/proc/self/fd/{{number}}") for number in range(3, 50) if os.path.exists(f"/proc/self/fd/{{number}}")}}
        kept, = (number for number, target in targets.items() if target.endswith("/children"))
        {change}
        with red:
            program = subprocess.Popen(["unshare", "--net", "sleep", "1014"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lab.wait_until(lambda: os.readlink(f"/proc/{{program.pid}}/exe").endswith("sleep"))
    print(program.wait({GONE_AFTER}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("-15\n", "")


WRAP = """
import subprocess
from pytest_netns import Lab

def next_pid(number):
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(number))

next_pid(20000)
with Lab() as lab:
    with lab.add_namespace("red"):
        next_pid(25000)
        program = subprocess.Popen(["sleep", "1000"])
    next_pid(20500)  # as after many more programs
    subprocess.run(["true"])
print("ended with", program.wait(10))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to set the next PID")
def test_pids_that_have_started_anew() -> None:
    """If PIDs wrap around in a long-lived lab, processes with any PID are found."""
    inside = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", WRAP]
    done = subprocess.run(inside, capture_output=True, text=True, check=True)
    assert done.stdout == "ended with -15\n"

"""At a limit of the machine the error names it, its value and how to raise it; nothing remains, and below it labs work."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOM = """
    import os, resource, subprocess, sys, threading, time
    from pathlib import Path
    from pytest_netns import KernelError, Lab
    from pytest_netns.kernel.programs import supervision
    from pytest_netns.kernel.spaces import destruction, netns

    programs = []

    def use(lab, namespaces):
        for number in range(namespaces):
            each = lab.add_namespace(f"n{number}")
            programs.append(each.popen(["sleep", "1000"], stdout=subprocess.PIPE))
            programs.append(each.start(["sleep", "1000"]))
            with each:
                pass
            each.call(int)
            each.socket().close()
            each.routes()

    def left():
        hub = destruction.hub()
        hub.wait(destruction.BUSY_GRACE)
        ours = [thread.name for thread in threading.enumerate() if thread.name.startswith("netns-")]
        return hub.alive() + ours + Path("/proc/thread-self/children").read_text().split()

    with Lab() as lab:
        use(lab, 1)
"""


def run(script: str, *prefix: str, arguments: Sequence[str] = ()) -> str:
    """The output of a Python script in a separate process."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", textwrap.dedent(ROOM) + textwrap.dedent(script), *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_network_namespaces() -> None:
    """user.max_net_namespaces: a lab beyond the limit fails every time; with a higher limit the same lab works."""
    script = """
    limit = Path("/proc/sys/user/max_net_namespaces")
    netns._CREATE_DEADLINE = 0.5
    limit.write_text("6")
    for attempt in range(2):  # at once: what was just freed counts until the kernel gets round to it
        with Lab() as lab:
            try:
                use(lab, 10)
            except KernelError as error:
                print(len(lab), error)
    assert not left(), left()
    limit.write_text("100")
    with Lab() as lab:
        use(lab, 10)
        print("later", len(lab))
    """
    # One is the process's own, one is the hub that watches the others' end.
    message = (
        "4 cannot create network namespace in namespace 'n4': user.max_net_namespaces is reached: it is 6 "
        "(No space left on device, ENOSPC)\n"
        "  remedy: sudo sysctl -w user.max_net_namespaces=100000\n"
    )
    printed = run(script, "unshare", "--user", "--map-root-user", "--net")  # the limit belongs to a user namespace
    assert printed == f"{message}{message}later 10\n"


@pytest.mark.parametrize("supervisor", ["running", "started each time"])
def test_open_files(supervisor: str) -> None:
    """RLIMIT_NOFILE: wherever a lab reaches it, the error says so, nothing remains, and with more the same lab works."""
    script = """
    end_supervisor = sys.argv[1] != "running"
    if end_supervisor:
        supervision.close()
    assert not left()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = os.listdir("/proc/self/fd")
    limit = max(map(int, before)) + 1
    while True:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        errors = []
        lab = Lab()
        for step in (lambda: use(lab, 2), lab.close):
            try:
                step()
            except* KernelError as group:
                errors += map(str, group.exceptions)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if end_supervisor:
            supervision.close()
        assert not left(), (limit, left())
        assert all(each.returncode is not None for each in programs), (limit, programs)
        assert os.listdir("/proc/self/fd") == before, (limit, os.listdir("/proc/self/fd"))
        for error in errors:
            assert error.startswith("cannot "), error
            assert f": this process has reached its limit of {limit} open files, RLIMIT_NOFILE (" in error, error
            assert error.endswith(f"remedy: ulimit -n {hard}"), error
        if not errors:
            break
        limit += 1
    print(limit - len(before))
    """
    assert int(run(script, arguments=[supervisor])) > 5  # it needs this many files, and has failed at each of them


def test_open_files_of_the_supervisor() -> None:
    """If its process starts at the limit, the next one starts as soon as there are files again; it can be ended at the limit."""
    script = """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def at_the_limit(action):
        supervision.close()
        supervisor = supervision.supervisor()
        number = os.dup(0)  # the lowest free one
        os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
        try:
            action(supervisor)
        except OSError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    at_the_limit(lambda supervisor: supervision.close())
    at_the_limit(lambda supervisor: supervisor.wait_ready())
    supervision.supervisor().wait_ready()
    with Lab() as lab:
        use(lab, 1)
    assert not left(), left()
    """
    assert run(script) == "[Errno 24] Too many open files\n"


def test_threads() -> None:
    """If no thread can be started, calls, lookups, programs and services name the limit; nothing remains, and later
    the same lab works."""
    script = """
    def look_up(red):
        with red:
            socket.getaddrinfo("red", 80)

    import re, socket
    from pytest_netns import NetnsError

    threading.stack_size(64 << 20)  # more than there will be room for
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    lab = Lab()
    red, blue = lab.add_namespace("red"), lab.add_namespace("blue")
    red.run("true")
    size = int(re.search(r"VmSize:\\s*([0-9]+)", Path("/proc/self/status").read_text())[1]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (size + (32 << 20), unlimited[1]))
    steps = [
        lambda: red.call(int), lambda: look_up(red), lambda: blue.run("true"), lambda: red.start(["sleep", "1000"]),
    ]
    for step in steps:
        try:
            step()
        except NetnsError as error:
            print(error)
    resource.setrlimit(resource.RLIMIT_AS, unlimited)
    print(red.call(int), blue.run("echo later").stdout.strip(), red.run("pgrep sleep", check=False).stdout)
    lab.close()
    assert not left(), left()
    """
    refused = "no thread can be started (can't start new thread)"
    remedy = "raise the limit on processes and threads: ulimit -u NUMBER; in a container: --pids-limit NUMBER"
    actions = (
        "call int in namespace 'red'",
        "look up a name in namespace 'red'",
        "run anything in namespace 'blue'",
        "read the output of a service",
    )
    assert run(script).splitlines() == [*(f"cannot {each}: {refused}; {remedy}" for each in actions), "0 later "]


def test_user_namespaces() -> None:
    """user.max_user_namespaces, all but one in use: mode rootless works repeatedly; with none left the error says so."""
    script = """
    from pytest_netns import UnavailableError
    from pytest_netns.machine import rootless

    def enter():
        pid = os.fork()
        if pid:
            return os.waitpid(pid, 0)[1]
        try:
            rootless.enter()
        except UnavailableError as error:
            print(error, flush=True)
        os._exit(0)

    hub = destruction.hub()
    limit = Path("/proc/sys/user/max_user_namespaces")
    for most in ("1", "0"):
        limit.write_text(most)
        print(most, flush=True)
        for attempt in range(10 if most == "1" else 1):
            assert enter() == 0
    """
    printed = run(script, "unshare", "--user", "--map-root-user", "--net")
    assert printed == (
        "1\n0\ncannot use network namespaces without root: creating a user namespace is refused: "
        "user.max_user_namespaces is 0 (No space left on device, ENOSPC)\n"
        "  remedy: sudo sysctl -w user.max_user_namespaces=10000\n"
    )


def test_what_is_tried_in_a_child_draws_no_warning_of_threads() -> None:
    """Since 3.12 Python warns about forks with threads, which an xdist worker always has: the plugin's own cause none."""
    script = """
    import warnings
    from pytest_netns.machine import attempts

    warnings.simplefilter("error")
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    print(attempts.try_in_child(lambda: None))
    end.set()
    """
    assert run(script) == "None\n"

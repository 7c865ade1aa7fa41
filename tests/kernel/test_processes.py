"""Programs in a namespace: what they see, how they are controlled, and that none of them outlives its lab."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_netns import CommandError, Lab, NetnsError, Process
from pytest_netns.kernel.programs import inits, supervision
from tests.faults.trial import below, children
from tests.support.processes import eventually, inside_of, stat_of

SLEEP = ["sleep", "1000"]
DAEMON = """
import os, sys
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
{extra}
print(flush=True)
os.close(1)
import signal
while True:
    signal.pause()
"""
FORK_BOMB = """
import os, signal
for _ in range(5):
    os.fork()
print(flush=True)
os.close(1)
while True:
    signal.pause()
"""
# Keeps forking, never the same PID for long: killing them one by one is too slow. Limited in number and time.
HOPPER = """
import os, time
print(flush=True)
os.close(1)
end = time.monotonic() + 20
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab("processes") as lab:
        yield lab


def python(script: str) -> list[str]:
    """argv of a Python script."""
    return [sys.executable, "-I", "-S", "-c", textwrap.dedent(script)]


def inside(lab: Lab) -> set[int]:
    """The processes, as seen from here, whose network namespace belongs to a lab."""
    return inside_of({namespace._kernel.inode for namespace in lab})


def state(pid: int) -> str:
    """A process's state letter."""
    return stat_of(pid)[0]


# -- what a program sees ---------------------------------------------------------------------------


def test_sees_own_processes_only(lab: Lab) -> None:
    """Inside, PID 1 is the init and only the namespace's processes are visible; outside they exist with other PIDs."""
    red, blue = lab.add_namespace("red"), lab.add_namespace("blue")
    mine, other = red.popen(SLEEP), blue.popen(["sleep", "2000"])
    listed = red.run("ps axww -o pid=,args=").stdout.splitlines()
    assert listed[0].split()[0] == "1"
    assert "supervisor" in listed[0]
    assert [line.split()[1:] for line in listed[1:]] == [SLEEP, ["ps", "axww", "-o", "pid=,args="]]
    assert mine.pid != int(listed[1].split()[0])
    assert Path(f"/proc/{mine.pid}/comm").read_text() == "sleep\n"
    assert Path(f"/proc/{other.pid}/comm").read_text() == "sleep\n"


def test_sees_own_sys_and_host_name(lab: Lab) -> None:
    """/sys and /proc/net show the namespace's interfaces, the host name is its name; the host's own is unchanged."""
    before = os.uname().nodename
    red, blue = lab.add_namespace("red"), lab.add_namespace("blue")
    lab.add_veth(red, blue, names=("veth-red", "veth-blue"))
    assert red.run("ls /sys/class/net").stdout.split() == ["lo", "veth-red"]
    assert blue.run("ls /proc/sys/net/ipv4/conf").stdout.split() == ["all", "default", "lo", "veth-blue"]
    assert red.run("hostname").stdout == "red\n"
    assert os.uname().nodename == before


def test_mounts_stay_inside(lab: Lab) -> None:
    """A namespace's mounts are not visible outside."""
    before = Path("/proc/self/mountinfo").read_text()
    red = lab.add_namespace("red")
    assert "/etc/hosts" in red.run("cat /proc/self/mountinfo").stdout
    assert Path("/proc/self/mountinfo").read_text() == before


def test_control_groups_stay_where_they_were(lab: Lab) -> None:
    """/sys is a new one, but mounts below /sys/fs/cgroup are still there."""
    outside = sorted(os.listdir("/sys/fs/cgroup")) if os.path.isdir("/sys/fs/cgroup") else None
    listed = lab.add_namespace("red").run("ls -A /sys/fs/cgroup", check=False)
    assert (sorted(listed.stdout.split()) if listed.returncode == 0 else None) == outside


# -- controlling a program -------------------------------------------------------------------------


def test_process_is_a_popen(lab: Lab) -> None:
    """popen returns a `subprocess.Popen`: pipes, text, wait, signals and return codes work."""
    red = lab.add_namespace("red")
    cat = red.popen("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert isinstance(cat, Process)
    assert isinstance(cat, subprocess.Popen)
    assert cat.communicate("hello") == ("hello", None)
    assert cat.returncode == 0
    spoken = red.popen(["sh", "-c", "echo out; echo err >&2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert spoken.communicate() == ("out\n", "err\n")
    sleeper = red.popen(SLEEP)
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(0.01)
    sleeper.send_signal(signal.SIGSTOP)
    eventually(lambda: state(sleeper.pid) == "T", "stopped")
    sleeper.send_signal(signal.SIGCONT)
    sleeper.terminate()
    assert sleeper.wait() == -signal.SIGTERM
    killed = red.popen(SLEEP)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert red.popen(SLEEP).stop() == -signal.SIGTERM


def test_stop_kills_what_ignores_sigterm(lab: Lab) -> None:
    """stop() sends SIGTERM, then SIGKILL."""
    stubborn = lab.add_namespace("red").popen(
        python("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"),
        stdout=subprocess.PIPE,
    )
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    assert stubborn.stop(timeout=0.05) == -signal.SIGKILL


def test_from_any_thread(lab: Lab) -> None:
    """Programs can be started, and waited for, by many threads at once, in many namespaces."""
    spaces = [lab.add_namespace(f"n{number}") for number in range(4)]

    def job(number: int) -> str:
        output: str = spaces[number % 4].run(["hostname"]).stdout
        return output.strip()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(job, range(40))) == [f"n{number % 4}" for number in range(40)]


def test_from_async_code(lab: Lab) -> None:
    """In a coroutine they work like `subprocess`: directly, and on a thread of the event loop."""
    red = lab.add_namespace("red")

    async def main() -> tuple[str, list[int]]:
        direct = red.run("hostname").stdout
        codes = await asyncio.gather(*(asyncio.to_thread(red.popen(["sh", "-c", f"exit {n}"]).wait) for n in range(5)))
        return direct, codes

    assert asyncio.run(main()) == ("red\n", [0, 1, 2, 3, 4])


def test_directory_and_environment_are_the_tests(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program starts in the current directory, with the current environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLOUR", "red")
    assert lab.add_namespace("red").run("pwd; echo $COLOUR", shell=True).stdout == f"{tmp_path}\nred\n"


def test_missing_program(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a missing program is the same as outside."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    red = lab.add_namespace("red")
    with pytest.raises(FileNotFoundError, match="no-such-program") as caught:
        red.run("no-such-program")
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("way", ["run", "popen", "start", "create_subprocess_exec"])
def test_program_outside_of_path(lab: Lab, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """For one in /usr/sbin, which an ordinary user's PATH lacks on Debian, the error names its path."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    red = lab.add_namespace("red")

    async def main() -> None:
        await red.create_subprocess_exec("nginx", "-v")

    with pytest.raises(FileNotFoundError, match="nginx") as caught:
        asyncio.run(main()) if way == "create_subprocess_exec" else getattr(red, way)("nginx -v")
    assert caught.value.__notes__ == ["it is /usr/sbin/nginx, which is not in PATH: export PATH=$PATH:/usr/sbin"]


# -- the end ---------------------------------------------------------------------------------------


def test_orphans_are_reaped_while_the_lab_lives(lab: Lab) -> None:
    """A daemon that ends does not stay a zombie: the init reaps it."""
    red = lab.add_namespace("red")
    red.run(["sh", "-c", "(sleep 0.05 &) ; (true &) ; (true &)"])
    init = red.programs.spawner().init.pid
    eventually(lambda: not below(init), "no child of the init, dead or alive")


def test_nothing_survives_closing() -> None:
    """50 processes of every stubborn kind, some still forking: none is left when close() has returned, in any namespace."""
    lab = Lab("many")
    for name in ("red", "blue"):
        namespace = lab.add_namespace(name)
        scripts = [DAEMON.format(extra="")] * 4
        scripts += [DAEMON.format(extra="import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")] * 4
        scripts += [f"import os; os.setsid(){DAEMON.format(extra='')}"] * 2
        scripts += [FORK_BOMB, HOPPER]
        readers = [namespace.popen(python(script), stdout=subprocess.PIPE) for script in scripts]
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.read().strip() == ""  # the daemon has closed the pipe: it is set up
        stopped = [namespace.popen(SLEEP) for _ in range(5)]
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        namespace.popen(SLEEP, start_new_session=True)
    victims = inside(lab)
    inits = {namespace.programs.spawner().init.pid for namespace in lab}
    assert len(victims) >= 2 * (10 + 32 + 6 + 1)
    inodes = {namespace._kernel.inode for namespace in lab}
    lab.close()
    assert not inside_of(inodes)
    assert not [pid for pid in victims - inits if stat_of(pid)[:1] not in ([], ["Z"])]
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in victims), "all reaped")


def test_asks_before_it_kills(lab: Lab, tmp_path: Path) -> None:
    """close() sends SIGTERM first, to daemons too, and waits for all namespaces at the same time."""
    script = """
        import os, signal, sys
        def end(*_):
            open(sys.argv[1], "w").close()
            os._exit(0)
        signal.signal(signal.SIGTERM, end)
        if len(sys.argv) > 2 and os.fork():
            os._exit(0)
        os.setsid()
        print(flush=True)
        signal.pause()
    """
    polite = []
    for name in ("red", "blue"):
        for kind in ([], ["daemon"]):
            path = tmp_path / f"{name}-{len(kind)}"
            started = lab.add_namespace(f"{name}{len(kind)}").popen(
                [*python(script), str(path), *kind], stdout=subprocess.PIPE, start_new_session=False
            )
            assert started.stdout is not None
            started.stdout.readline()
            polite.append(path)
    lab.close()
    assert [path for path in polite if not path.exists()] == []


def test_started_by_python_code_inside(lab: Lab) -> None:
    """Processes that Python code inside a namespace starts with plain `subprocess` end with the lab too."""
    red = lab.add_namespace("red")
    with red:
        raw = subprocess.Popen(SLEEP)
        daemon = subprocess.Popen(python(DAEMON.format(extra="")), stdout=subprocess.PIPE)
        with daemon:
            assert daemon.stdout is not None
            daemon.stdout.read()
    called = red.call(subprocess.Popen, SLEEP)
    victims = inside(lab) - {red.programs.spawner().init.pid}
    assert len(victims) == 3
    lab.close()
    assert raw.wait(5) == called.wait(5) == -signal.SIGTERM
    assert not [pid for pid in victims if stat_of(pid)[:1] not in ([], ["Z"])]


# -- the supervisor or an init killed --------------------------------------------------------------


def test_init_killed() -> None:
    """If an init is killed, the next use reports it by name, closing works, and other namespaces and labs work."""
    with Lab() as lab:
        red, blue = lab.add_namespace("red"), lab.add_namespace("blue")
        sleeper = red.popen(SLEEP)
        blue.run("true")
        init = red.programs.spawner().init
        os.kill(init.pid, signal.SIGKILL)
        with pytest.raises(NetnsError, match=rf"init process of namespace 'red' \(PID {init.pid}\) has died"):
            red.run(SLEEP)
        assert sleeper.wait() == -signal.SIGKILL
        assert blue.run("hostname").stdout == "blue\n"
    with Lab() as later:
        assert later.add_namespace("red").run("hostname").stdout == "red\n"


def test_init_killed_while_a_command_runs(lab: Lab) -> None:
    """A command that runs while its init is killed fails with an error that gives the reason."""
    red = lab.add_namespace("red")
    init = red.programs.spawner().init
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(red.run, SLEEP)
        eventually(lambda: len(inside(lab)) == 2, "the command runs")
        os.kill(init.pid, signal.SIGKILL)
        with pytest.raises(NetnsError, match=f"PID {init.pid}"):
            running.result()


def inner(watchdog: int) -> int:
    """The PID of the supervisor that belongs to a watchdog."""
    (child,) = children(watchdog)
    return child


@pytest.mark.parametrize("victim", ["watchdog", "supervisor"])
def test_supervisor_killed(victim: str) -> None:
    """If the supervisor (or its watchdog) is killed, the next use reports it, nothing hangs, and later labs work."""
    with Lab() as lab:
        red = lab.add_namespace("red")
        sleeper = red.popen(SLEEP)
        watchdog = supervision.supervisor().pid
        init = red.programs.spawner().init
        os.kill(watchdog if victim == "watchdog" else inner(watchdog), signal.SIGKILL)
        assert sleeper.wait() == -signal.SIGKILL
        assert inits.wait_ended(init.pidfd, 5)
        with pytest.raises(NetnsError, match=rf"\(PID {init.pid}\) has died, because the supervisor process"):
            red.run("true")
        assert lab.add_namespace("blue").run("hostname").stdout == "blue\n"
    with Lab() as later:
        assert later.add_namespace("red").run("hostname").stdout == "red\n"


def test_a_start_that_fails_once_it_runs_ends_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """If starting the supervisor fails after its process exists, that ends without a sweep."""
    red = lab.add_namespace("red")
    supervision.close()
    fd = red._kernel.fd
    raw = subprocess.Popen(["nsenter", f"--net=/proc/self/fd/{fd}", *SLEEP], pass_fds=[fd])
    started = []
    start = supervision._start_program

    def fail(*descriptors: int) -> None:
        started.append(start(*descriptors))
        raise OSError(errno.ENOSPC, "told by the pipe that tells how the start went")

    try:
        eventually(lambda: raw.pid in inside(lab), "it has entered")
        monkeypatch.setattr(supervision, "_start_program", fail)
        with pytest.raises(NetnsError, match="ENOSPC"):
            red.run("true")
        monkeypatch.undo()
        assert started[0].wait(5) == 0
        assert raw.poll() is None
        assert red.run("hostname").stdout == "red\n"
    finally:
        raw.kill()
        raw.wait()


def test_a_start_that_is_refused_leaves_no_descriptor(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor of an xdist worker watches two processes, of which the second may be refused."""
    red = lab.add_namespace("red")
    supervision.close()
    pidfd_open = os.pidfd_open

    def refuse(pid: int) -> int:
        if pid == os.getppid():
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return pidfd_open(pid)

    monkeypatch.setattr(supervision, "_controllers", [os.getppid()])
    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", refuse)
        with pytest.raises(NetnsError, match="ENOMEM"):
            red.run("true")
    assert set(os.listdir("/proc/self/fd")) <= set(before)
    assert red.run("hostname").stdout == "red\n"


@pytest.mark.parametrize("victim", ["watchdog", "supervisor"])
def test_replacing_the_supervisor_spares_processes_inside(lab: Lab, victim: str) -> None:
    """A new supervisor takes over the watch: neither pytest, which is inside, nor what it started there is killed."""
    red = lab.add_namespace("red")
    with red:
        raw = subprocess.Popen(SLEEP)
        old = supervision.supervisor()
        old.wait_ready()  # both have started
        os.kill(old.pid if victim == "watchdog" else inner(old.pid), signal.SIGKILL)
        eventually(lambda: not old.is_alive(), "the supervisor's end is seen")
        assert supervision.supervisor() is not old
        assert raw.poll() is None
    lab.close()
    assert raw.wait(5) == -signal.SIGTERM


def test_a_failing_command_says_where(lab: Lab) -> None:
    """A failed command's error names argv, namespace and status, and shows its output."""
    with pytest.raises(CommandError, match="red") as caught:
        lab.add_namespace("red").run(["sh", "-c", "echo sorry >&2; exit 3"])
    assert "sorry" in str(caught.value)
    assert caught.value.returncode == 3


def test_supervisor_does_not_keep_pipes_open(lab: Lab) -> None:
    """The supervisor, started while a pipe is open, does not hold it: the reader sees its end."""
    supervision.close()
    receive, send = os.pipe()
    os.set_inheritable(send, True)
    lab.add_namespace("red").run("true")
    os.close(send)
    poll = select.poll()
    poll.register(receive, select.POLLIN)
    assert poll.poll(5000) == [(receive, select.POLLHUP)]
    os.close(receive)


def test_a_program_that_another_thread_is_reaping_has_ended(lab: Lab) -> None:
    """`wait` with a timeout does not time out because another thread is just reaping the program."""
    process = lab.add_namespace("red").popen(["sleep", "1000"])
    is_reaping, has_ended = threading.Event(), threading.Event()

    def reap() -> None:
        with process._waitpid_lock:  # type: ignore[attr-defined]
            is_reaping.set()
            has_ended.wait(5)
            threading.Event().wait(0.05)

    reaper = threading.Thread(target=reap)
    reaper.start()
    is_reaping.wait(5)
    process.kill()
    threading.Timer(0.05, has_ended.set).start()
    assert process.wait(timeout=5) == -signal.SIGKILL
    reaper.join()

"""Programs run in a namespace like with subprocess, and errors show what users need."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_netns import CommandError, CommandTimeout, InvalidTopologyError, Lab, Namespace, NetnsError

PYTHON = sys.executable
needs_root = pytest.mark.skipif(
    Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"] or os.getuid() != 0,
    reason="needs root: changing the user",
)


@pytest.fixture
def red(netns: Lab) -> Namespace:
    """A namespace."""
    return netns.add_namespace("red")


def test_result_is_a_completed_process_with_text(red: Namespace) -> None:
    """The result is the standard library's, with both outputs as text."""
    done = red.run([PYTHON, "-c", "import sys; print('out'); print('err', file=sys.stderr)"])
    assert type(done) is subprocess.CompletedProcess
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")


def test_it_runs_in_the_namespace(red: Namespace) -> None:
    """A program has the namespace's network and host name, and its parent is pytest."""
    with red:
        inside = os.readlink("/proc/thread-self/ns/net")
    assert red.run(["readlink", "/proc/self/ns/net"]).stdout.strip() == inside
    assert red.run("hostname").stdout.strip() == "red"
    sleeper = red.popen(["sleep", "600"])
    status = Path(f"/proc/{sleeper.pid}/status").read_text()
    assert f"PPid:\t{os.getpid()}\n" in status


def test_a_string_is_split_and_never_reaches_a_shell(red: Namespace) -> None:
    """Quotes work as in a shell, other features of a shell do not."""
    assert red.run("printf '%s|' 'a b' c").stdout == "a b|c|"
    assert red.run("echo $HOME; id > /tmp/x && $(id) `id`").stdout == "$HOME; id > /tmp/x && $(id) `id`\n"
    hostile = 'a\'; touch /tmp/x; "$(id)" \\ `id`'
    assert red.run(f"echo {shlex.quote(hostile)}").stdout == hostile + "\n"
    assert red.run(["echo", hostile]).stdout == hostile + "\n"


def test_a_shell_on_request(red: Namespace) -> None:
    """shell=True passes the whole text to a shell."""
    assert red.run("echo $((6 * 7)) | tr 2 3", shell=True).stdout == "43\n"


@pytest.mark.parametrize("command", ["", "   ", [], ()])
def test_an_empty_command_is_refused(red: Namespace, command: object) -> None:
    """An empty command is an error of the plugin that shows it."""
    with pytest.raises(InvalidTopologyError, match="cannot run .*: the command is empty"):  # noqa: RUF043
        red.run(command)  # type: ignore[call-overload]


def test_a_path_is_a_command(red: Namespace) -> None:
    """A path, including its spaces, is one argument."""
    assert red.run(Path("/bin/true")).returncode == 0


def test_a_missing_program(red: Namespace) -> None:
    """As with subprocess: a FileNotFoundError that names the program."""
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        red.run(["/no-such-program"])


def test_check(red: Namespace) -> None:
    """A failed command raises; without check its status is returned."""
    assert red.run(["false"], check=False).returncode == 1
    with pytest.raises(subprocess.CalledProcessError):
        red.run(["false"])


def test_command_error_shows_what_a_person_needs(red: Namespace) -> None:
    """The command as typed, the namespace, the status and the end of both outputs."""
    program = "import sys; [print('line', n) for n in range(30)]; print('reason', file=sys.stderr); sys.exit(3)"
    with pytest.raises(CommandError) as caught:
        red.run([PYTHON, "-c", program])
    error, text = caught.value, str(caught.value)
    assert text.startswith(
        f"cannot complete command in namespace 'red': {shlex.join([PYTHON, '-c', program])}: exit status 3\n"
    )
    assert "stdout (first 5 and last 20 of 30 lines):\n    line 0\n" in text
    assert "line 9\n" not in text
    assert text.endswith("  stderr:\n    reason")
    assert (error.returncode, error.namespace, error.stderr) == (3, "red", "reason\n")
    assert error.stdout.startswith("line 0\n"), "the error itself has all of it"


def test_output_that_is_not_utf_8(red: Namespace) -> None:
    """A failure is reported as such whatever the output; the bytes are shown as escapes, or kept as bytes on request."""
    with pytest.raises(CommandError) as caught:
        red.run([PYTHON, "-c", r"import sys; sys.stdout.buffer.write(b'a\xffb'); sys.exit(3)"])
    assert caught.value.stdout == r"a\xffb"
    done = red.run([PYTHON, "-c", r"import sys; sys.stdout.buffer.write(b'\xff')"], text=False)
    assert done.stdout == b"\xff"


def test_command_error_names_the_signal(red: Namespace) -> None:
    """Death by a signal is shown with its name."""
    with pytest.raises(CommandError, match=r"signal 15 \(SIGTERM\)") as caught:
        red.run([PYTHON, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"])
    assert caught.value.returncode == -signal.SIGTERM


def test_timeout(red: Namespace) -> None:
    """After the timeout a command is killed, and the error shows its output so far."""
    with pytest.raises(CommandTimeout) as caught:
        red.run(["sh", "-c", "echo begun; exec sleep 600"], timeout=1)
    text = str(caught.value)
    assert text.startswith("cannot complete command in namespace 'red' within 1 s: ")
    assert "killed\n  stdout:\n    begun" in text
    assert isinstance(caught.value, subprocess.TimeoutExpired)
    assert red.programs.processes == []
    assert "sleep" not in red.run("ps -e -o args=").stdout


def test_timeout_with_a_child_that_holds_the_pipe(red: Namespace) -> None:
    """A grandchild that keeps the output open does not block run; it ends with the lab."""
    begun = time.monotonic()
    with pytest.raises(CommandTimeout):
        red.run("sleep 600 & echo $!; wait", shell=True, timeout=0.2)
    assert time.monotonic() - begun < 300


def _run_it(red: Namespace, timeout: float | None) -> object:
    return red.run(["sleep", "600"], timeout=timeout)


def _communicate(red: Namespace, timeout: float | None) -> object:
    return red.popen(["sleep", "600"], stdout=subprocess.PIPE).communicate(timeout=timeout)


def _wait(red: Namespace, timeout: float | None) -> object:
    return red.popen(["sleep", "600"]).wait(timeout)


@pytest.mark.parametrize("wait", [_run_it, _communicate, _wait])
@pytest.mark.parametrize("timeout", [None, 500])
def test_ctrl_c(wait: Callable[[Namespace, float | None], object], timeout: float | None, red: Namespace) -> None:
    """Ctrl-C while waiting for a program is raised unchanged, after the short wait that subprocess grants the program."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            wait(red, timeout)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_input(red: Namespace) -> None:
    """Text or bytes as input; outputs have the same type."""
    assert red.run(["cat"], input="tëxt").stdout == "tëxt"
    assert red.run(["cat"], input=b"\xff\x00").stdout == b"\xff\x00"
    with pytest.raises(InvalidTopologyError, match="cannot use stdin together with input"):
        red.run(["cat"], input="x", stdin=subprocess.DEVNULL)


def test_bytes_on_request(red: Namespace) -> None:
    """text=False returns bytes; an encoding is respected."""
    assert red.run(["printf", r"\377"], text=False).stdout == b"\xff"
    assert red.run(["printf", r"\351"], encoding="latin-1").stdout == "é"
    with pytest.raises(CommandError, match="stdout:\n    oops"):
        red.run("echo oops; exit 1", shell=True, text=False)


def test_env_and_cwd(red: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment and the directory are the caller's, or the given ones."""
    monkeypatch.setenv("COLOUR", "red")
    assert red.run("printenv COLOUR").stdout == "red\n"
    assert red.run(["/usr/bin/env"], env={"ONLY": "this"}).stdout == "ONLY=this\n"
    assert red.run("pwd", cwd=tmp_path).stdout == f"{tmp_path}\n"
    monkeypatch.chdir(tmp_path)
    assert red.run(["/bin/pwd"]).stdout == f"{tmp_path}\n"
    (tmp_path / "here").write_text("found")
    assert red.run("cat here").stdout == "found"


@needs_root
def test_user(red: Namespace) -> None:
    """user= runs the program as another user, with the groups of that user, in the same network."""
    done = red.run("id -un; readlink /proc/self/ns/net || ls /sys/class/net", shell=True, user="nobody", cwd="/")
    assert done.stdout.splitlines()[0] == "nobody"
    assert red.run(["ls", "/sys/class/net"], user="nobody", cwd="/").stdout == "lo\n"
    nobody = pwd.getpwnam("nobody")
    groups = {str(each) for each in os.getgrouplist("nobody", nobody.pw_gid)}
    assert set(red.run("id -G", user=nobody.pw_uid, cwd="/").stdout.split()) == groups
    assert red.run("id -g", user="nobody", group="daemon", cwd="/").stdout == f"{grp.getgrnam('daemon').gr_gid}\n"


def test_outputs_can_go_elsewhere(red: Namespace, tmp_path: Path) -> None:
    """stdout, stderr and capture_output mean the same as in subprocess."""
    done = red.run("echo one; echo two >&2", shell=True, stderr=subprocess.STDOUT)
    assert done.stdout == "one\ntwo\n"
    assert done.stderr is None
    with open(tmp_path / "file", "w") as file:
        assert red.run(["echo", "to file"], stdout=file).stdout is None
    assert (tmp_path / "file").read_text() == "to file\n"
    assert red.run(["true"], capture_output=False).stdout is None


def test_popen(red: Namespace) -> None:
    """popen returns at once; wait, poll, communicate and signals work as with subprocess."""
    process = red.popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert isinstance(process, subprocess.Popen)
    assert process.poll() is None
    assert process.communicate("hello", timeout=5) == ("hello", None)
    assert process.returncode == 0
    sleeper = red.popen(["sleep", "600"])
    sleeper.send_signal(signal.SIGUSR1)
    assert sleeper.wait(5) == -signal.SIGUSR1
    assert red.popen(["sleep", "600"]).stop() == -signal.SIGTERM


def test_processes_end_with_the_lab() -> None:
    """Closing a lab ends everything that runs in it, including stubborn and daemonised programs."""
    with Lab() as lab:
        red = lab.add_namespace("red")
        plain = red.popen(["sleep", "600"])
        stubborn = red.popen(
            [PYTHON, "-uc", "import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(600)"],
            stdout=subprocess.PIPE,
        )
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == "1\n"
        inside = red.run("setsid sh -c 'sleep 601 >/dev/null 2>&1 & echo $!'", shell=True)
        assert inside.stdout.strip().isdigit()
        view = red.programs.view
        assert view is not None
        children = Path(f"/proc/{view.init.pid}/task/{view.init.pid}/children")
        daemons = [os.pidfd_open(int(pid)) for pid in children.read_text().split()]
        assert daemons
    assert plain.returncode == -signal.SIGTERM
    assert stubborn.returncode == -signal.SIGKILL
    for daemon in daemons:
        with pytest.raises(ProcessLookupError):
            signal.pidfd_send_signal(daemon, 0)
        os.close(daemon)


def test_use_after_close() -> None:
    """Every use of a closed lab's namespace raises an error that its lab is closed."""
    with Lab() as lab:
        red = lab.add_namespace("red")
    for ask in (
        lambda: red.run(["true"]),
        lambda: red.popen(["true"]),
        lambda: red.interfaces,
        red.routes,
        red.socket,
        lambda: red.call(print),
        lambda: red.sysctl("net.ipv4.ip_forward"),
        red.ruleset,
        red.__enter__,
    ):
        with pytest.raises(NetnsError, match="'red': its lab is closed"):
            ask()
    for make in (lambda: lab.add_namespace("x"), lambda: lab.add_bridge("x"), lambda: lab.host, lab.__enter__):
        with pytest.raises(NetnsError, match="this lab: it is closed"):
            make()


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("tc qdisc add dev lo root no_such_qdisc", r"sudo modprobe sch_NAME.*impair\("),
        ("ip link add eth0 type no_such_kind", "sudo modprobe KIND"),
    ],
)
def test_what_the_kernel_lacks_is_said(netns: Lab, command: str, remedy: str) -> None:
    """If a tool fails because the kernel lacks a feature, a note names the remedy."""
    with pytest.raises(CommandError) as caught:
        netns.host.run(command)
    assert any(re.search(remedy, note) for note in caught.value.__notes__)
    with pytest.raises(CommandError) as caught:
        netns.host.run("false")
    assert not getattr(caught.value, "__notes__", [])

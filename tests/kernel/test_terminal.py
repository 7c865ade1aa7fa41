"""Programs in a pseudo-terminal: prompts, job control, and pexpect."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pexpect
import pytest

from pytest_netns import InvalidTopologyError, Lab, Namespace, TerminalProcess, UnavailableError

PASSWORD = "import getpass; print('got', getpass.getpass('password: ')[::-1])"


@pytest.fixture
def red() -> Iterator[Namespace]:
    with Lab("terminal") as lab:
        yield lab.add_namespace("red")


def read_all(process: TerminalProcess) -> str:
    """Its output until it has exited."""
    found = b""
    try:
        while chunk := process.terminal.read(1000):
            found += chunk
    except OSError:  # EIO: nothing has it open any more
        pass
    return found.decode()


def test_popen_on_a_terminal(red: Namespace) -> None:
    """The program has a controlling terminal of the usual size, and is in the namespace."""
    process = red.popen(["sh", "-c", "tty; stty size; hostname; echo done >/dev/tty; exit 3"], pty=True)
    assert isinstance(process, TerminalProcess)
    tty, size, hostname, done = read_all(process).split("\r\n")[:4]
    assert tty.startswith("/dev/pts/")
    assert (size, hostname, done) == ("24 80", "red", "done")
    assert process.wait() == 3


def test_popen_that_cannot(red: Namespace) -> None:
    """A missing program is the usual error; streams and a terminal exclude each other."""
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        red.popen(["no-such-program"], pty=True)
    with pytest.raises(InvalidTopologyError, match="cannot use stdout together with pty"):
        red.popen(["true"], pty=True, stdout=-1)
    assert red.programs.processes == []


def test_spawn_a_conversation(red: Namespace) -> None:
    """`ns.spawn` is a pexpect.spawn: a password is not echoed, and the exit is detected."""
    child = red.spawn([sys.executable, "-c", PASSWORD], encoding="utf-8", timeout=20)
    assert isinstance(child, pexpect.spawn)
    child.expect("password: ")
    child.sendline("terces")
    child.expect("got secret")
    child.expect(pexpect.EOF)
    child.wait()
    assert (child.exitstatus, child.isalive()) == (0, False)


def test_spawn_job_control(red: Namespace) -> None:
    """Ctrl-Z stops the foreground program and Ctrl-C ends it, and the shell continues."""
    child = red.spawn("sh", ["-i"], env={"PS1": "$ ", "PATH": "/usr/bin:/bin"}, encoding="utf-8", timeout=20)
    child.expect(r"\$ ")
    child.sendline("sh -c 'echo $((6 * 7)) up; exec cat'")  # the program that prints it is in the foreground
    child.expect("42 up")
    child.sendcontrol("z")
    child.expect("Stopped")
    child.expect(r"\$ ")
    child.sendline("fg")
    child.expect("cat")
    child.sendcontrol("c")
    child.expect(r"\$ ")
    child.sendline("hostname")
    child.expect("red")
    assert child.isalive()


def test_a_shell_ends_with_the_lab() -> None:
    """An interactive shell, which ignores SIGTERM, ends when the lab does."""
    with Lab("terminal") as lab:
        child = lab.add_namespace("red").spawn("sh -i", timeout=20)
        child.expect(rb"[$#] ")
    assert not child.isalive()
    assert child.signalstatus in (signal.SIGHUP, None)


def test_without_pexpect(red: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """If pexpect is not installed, the error says how to install it."""
    monkeypatch.setitem(sys.modules, "pexpect", None)
    with pytest.raises(UnavailableError, match="pexpect is not installed") as caught:
        red.spawn("sh")
    assert caught.value.remedy == "pip install pexpect"

"""Interactive use: the subcommands draw and shell, the pause after a failure, drawings in HTML reports."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_netns import Lab, Topology
from pytest_netns.topology import PICTURES

PROGRAM = [sys.executable, "-m", "pytest_netns"]


class Terminal:
    """A user's side of a pseudo-terminal."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self._descriptor = descriptor
        self.process = process
        self.seen = ""

    def write(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def expect(self, pattern: str, timeout: float = 20) -> re.Match[str]:
        """Wait for output that matches, after the previous match."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.search(pattern, self.seen)
            if match:
                self.seen = self.seen[match.end() :]
                return match
            assert time.monotonic() < deadline, f"{pattern!r} not in {self.seen!r}"
            if select.select([self._descriptor], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._descriptor, 1 << 16).decode(errors="replace")
                except OSError:  # EIO: the other side has exited
                    assert re.search(pattern, self.seen), f"{pattern!r} not in {self.seen!r}"


@contextmanager
def terminal(command: list[str], directory: Path, **environment: str) -> Iterator[Terminal]:
    """A program in a pseudo-terminal, as in a terminal window."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=directory,
        env={**os.environ, "TERM": "dumb", "SHELL": "/bin/bash", **environment},
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture
def topology_file(tmp_path: Path) -> Path:
    path = tmp_path / "lan.toml"
    path.write_text(PICTURES["lan"].dumps())
    return path


def test_draw_command(topology_file: Path) -> None:
    """`pytest-netns draw` prints `topology.draw()`, in all formats, to stdout or a file whose extension selects the format."""
    text = subprocess.run([*PROGRAM, "draw", topology_file], capture_output=True, text=True, check=True).stdout
    assert text == PICTURES["lan"].draw()
    for ending, format_ in ((".svg", "svg"), (".mmd", "mermaid")):
        written = topology_file.with_suffix(ending)
        subprocess.run([*PROGRAM, "draw", "lan", "-o", written], check=True)
        assert written.read_text() == PICTURES["lan"].draw(format_)


def test_draw_command_says_what_is_wrong(tmp_path: Path) -> None:
    """A missing file, and one with mistakes, give an error message, with exit status 2."""
    (tmp_path / "bad.toml").write_text("[[bridge]]\n")
    for name, words in (("none.toml", "No such file"), ("bad.toml", "bad.toml: bridge")):
        done = subprocess.run([*PROGRAM, "draw", name], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_lab_is_drawn_as_its_topology(netns_nat: Lab) -> None:
    """A live lab is drawn from the kernel's state: the links of its topology, and later changes."""
    assert "[outside] eth0  192.168.1.3/24" in netns_nat.draw()
    assert netns_nat.draw("mermaid").count("===") == PICTURES["nat"].draw("mermaid").count("===") == 3
    ET.fromstring(netns_nat.draw("svg"))
    netns_nat["red"].interfaces["veth-red"].down()
    assert "veth-red  192.168.15.1/24  down" in netns_nat.draw()


def test_shell(topology_file: Path) -> None:
    """The shell is inside, in the terminal, with job control; when it exits, the network and its processes are gone."""
    with terminal([*PROGRAM, "shell", str(topology_file), "--in", "red"], topology_file.parent) as person:
        person.expect(r"veth-red  192\.168\.15\.1/24")
        person.expect(r"blue +nsenter --target \d+ .*--net")
        person.write("hostname; ping -c1 -W2 192.168.15.2; sleep 1234 &\n")
        person.expect(r"red\r?\n")
        person.expect(r"1 received")
        person.write("ip netns; ip -n blue -br link | grep -c veth\\-blue\n")
        person.expect(r"blue( \(id: \d+\))?\r?\n")
        person.expect(r"\n1\r?\n")
        person.write("jobs; kill -0 %1 && echo sleeps; exit 7\n")
        person.expect(r"sleeps")
        person.expect(r"exit")
        assert person.process.wait(20) == 7


def test_shell_ends_with_its_terminal(topology_file: Path) -> None:
    """Closing the window (SIGHUP) ends the shell's lab too."""
    with terminal([*PROGRAM, "shell", "lan", "--in", "red"], topology_file.parent) as person:
        init = int(person.expect(r"red +nsenter --target (\d+) ").group(1))
        pidfd = os.pidfd_open(init)
        person.process.send_signal(signal.SIGHUP)
        assert select.select([pidfd], [], [], 20)[0], "the namespace's init is still there"
        os.close(pidfd)


def test_long_build_shows_progress(tmp_path: Path) -> None:
    """While a large topology is built, the terminal shows the progress."""
    path = tmp_path / "large.toml"
    path.write_text(Topology.inline([f"n{n}" for n in range(600)], subnet="10.0.0.0/16").dumps())
    with terminal([*PROGRAM, "shell", str(path)], tmp_path) as person:
        person.expect(r"\d+ of 601 namespaces")
        person.process.send_signal(signal.SIGHUP)
        person.process.wait(30)


def test_shell_says_what_is_wrong() -> None:
    """A namespace that is not in the topology is refused before anything is built."""
    done = subprocess.run([*PROGRAM, "shell", "lan", "--in", "rde"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "did you mean 'red'" in done.stderr


FAILING = """
def test_it(netns_pair):
    netns_pair["red"].popen(["sleep", "4321"])
    assert 0, "on purpose"

def test_after():
    print("after")
"""


def test_pause(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """After a failure the commands shown enter each namespace, with its processes, until Enter; then the run continues."""
    (tmp_path / "test_it.py").write_text(FAILING)
    mode = request.config.getoption("netns_mode") or "auto"
    pytest_ = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        f"--netns-mode={mode}",
        "--netns-pause",
        "--color=no",
    ]
    with terminal(pytest_, tmp_path) as person:
        person.expect(r"test_it\.py::test_it has failed")
        red = person.expect(r"red +(nsenter .*?)\r?\n").group(1)
        person.expect(r"blue +nsenter ")
        person.expect(r"Press Enter to continue")
        inside = subprocess.run(
            [*red.split(), "sh", "-c", "hostname; ip -br address; ps ax"], capture_output=True, text=True
        )
        assert inside.stdout.startswith("red\n"), inside
        assert "192.168.15.1/24" in inside.stdout
        assert "sleep 4321" in inside.stdout
        person.write("\n")
        person.expect(r"1 failed, 1 passed")


def test_pause_needs_a_terminal(pytester: pytest.Pytester) -> None:
    """With xdist Enter cannot be pressed: the option is refused at once."""
    result = pytester.runpytest_subprocess("--netns-pause", "-n2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--netns-pause: xdist workers have no terminal*"])


def test_html_report(pytester: pytest.Pytester, request: pytest.FixtureRequest, every_plugin: None) -> None:
    """pytest-html's report has a failure's drawing as SVG, once, beside the text."""
    pytest.importorskip("pytest_html")
    mode = request.config.getoption("netns_mode") or "auto"
    pytester.makepyfile(FAILING)
    arguments = ("-p", "no:cacheprovider", f"--netns-mode={mode}", "--html=report.html", "--self-contained-html")
    pytester.runpytest_subprocess(*arguments).assert_outcomes(failed=1, passed=1)
    report = (pytester.path / "report.html").read_text()
    assert report.count("&lt;svg") + report.count("<svg xmlns") + report.count("\\u003csvg") >= 1
    assert "192.168.15.1/24" in report

"""pytest-xdist: all distribution modes, crashing workers, and workers on other machines."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_netns import Lab, Namespace
from tests.support.environments import IS_ROOT, NO_CACHE, environment, run_pytest
from tests.support.processes import eventually

SUITE = """
import os

import pytest


@pytest.fixture(scope="session")
def shared(netns_factory):
    with netns_factory.lab("pair") as lab:
        yield lab


@pytest.mark.parametrize("number", range({tests}))
@pytest.mark.xdist_group("one")
def test_same_names_and_addresses(netns_lan, shared, number):
    red, blue = netns_lan["red"], netns_lan["blue"]
    red.run("ping -c1 -W5 192.168.15.2")
    assert {{str(entry.address) for entry in blue.neighbours()}} <= {{"192.168.15.1", "192.168.15.5"}}
    shared["blue"].run("ping -c1 -W5 192.168.15.1")


class TestOther:
    @pytest.mark.parametrize("number", range({tests}))
    @pytest.mark.netns
    def test_same_port(self, number):
        import socket

        with socket.create_server(("127.0.0.1", 80)):
            socket.create_connection(("127.0.0.1", 80)).close()
"""
MODE = () if IS_ROOT else ("--netns-mode=rootless",)


@pytest.mark.parametrize("dist", ["load", "loadscope", "loadgroup", "loadfile", "worksteal"])
def test_every_distribution(tmp_path: Path, dist: str) -> None:
    """Labs with the same names, addresses and ports run in several workers without interference."""
    (tmp_path / "test_suite.py").write_text(SUITE.format(tests=6))
    outcome = run_pytest([], tmp_path, "-n", "3", "--dist", dist, *MODE)
    assert outcome.counts == {"passed": 12}, outcome.output


def test_sixteen_workers(tmp_path: Path) -> None:
    """Many more workers than cores."""
    (tmp_path / "test_suite.py").write_text(SUITE.format(tests=24))
    outcome = run_pytest([], tmp_path, "-n", "16", *MODE)
    assert outcome.counts == {"passed": 48}, outcome.output


CRASH = """
import os
import signal
import subprocess
from pathlib import Path

import pytest

NOTES = Path({notes!r})


@pytest.mark.parametrize("number", range(6))
def test_fine(netns_pair, number):
    netns_pair["red"].run("ping -c1 -W5 192.168.15.2")


def test_crash(netns):
    sleeper = netns.add_namespace("doomed").popen(["sleep", "1000"])
    # A link from the network of the whole run: it is deleted with the namespace at its other end.
    subprocess.run(["ip", "link", "add", "canary", "type", "veth", "peer", "name", "inner", "netns", str(sleeper.pid)], check=True)
    NOTES.write_text(open("/proc/net/dev").read())
    {how}
"""


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)"])
def test_a_worker_that_crashes_is_replaced_and_its_network_is_gone(netns: Lab, tmp_path: Path, how: str) -> None:
    """The other tests pass, and of the crashed worker's namespace not even the link into it remains."""
    notes = tmp_path / "notes"
    (tmp_path / "test_suite.py").write_text(CRASH.format(notes=str(notes), how=how))
    argv = [sys.executable, "-m", "pytest", NO_CACHE, "-n", "2", "--netns-mode=root", str(tmp_path)]
    done = netns.host.run(argv, check=False, env=environment(), cwd=tmp_path, timeout=100)
    assert "replacing crashed worker" in done.stdout, done.stdout
    assert "1 failed, 6 passed" in done.stdout, done.stdout
    assert "canary" in notes.read_text()
    eventually(lambda: "canary" not in netns.host.interfaces, "the crashed worker's namespace is gone")


# -- workers on other machines ---------------------------------------------------------------------

SSHD = """
ListenAddress 0.0.0.0
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PidFile none
"""
SSH = """
Host *
    IdentityFile {directory}/user_key
    UserKnownHostsFile /dev/null
    StrictHostKeyChecking no
    LogLevel ERROR
Host left
    HostName 192.168.77.1
Host right
    HostName 192.168.77.2
"""
REMOTE = """
import socket
from pathlib import Path

import pytest


@pytest.mark.parametrize("number", range(8))
def test_there(netns_pair, number):
    netns_pair["red"].run("ping -c1 -W5 192.168.15.2")
    (Path({notes!r}) / f"{{number}} {{socket.gethostname()}}").touch()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path that belongs to the user."""
    path = Path(tempfile.mkdtemp(prefix="netns-ssh."))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def machines(netns: Lab, directory: Path) -> tuple[Namespace, Namespace, Namespace]:
    """A controller and two machines with sshd, on one bridge."""
    for name in ("host_key", "user_key"):
        netns.host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)])
    (directory / "sshd_config").write_text(SSHD.format(directory=directory))
    (directory / "ssh_config").write_text(SSH.format(directory=directory))
    if IS_ROOT:
        Path("/run/sshd").mkdir(exist_ok=True)  # required by Debian's sshd for its unprivileged part
    bridge = netns.add_bridge("v-net-0")
    left, right, controller = (netns.add_namespace(name) for name in ("left", "right", "controller"))
    for number, machine in enumerate((left, right, controller), 1):
        bridge.attach(machine, address=f"192.168.77.{number}/24")
    for machine in (left, right):
        machine.start(["/usr/sbin/sshd", "-D", "-e", "-f", str(directory / "sshd_config")], ready=22)
    return left, right, controller


def test_workers_on_other_machines_over_ssh(machines: tuple[Namespace, ...], directory: Path) -> None:
    """A netns suite is split between two machines by real ssh, and passes on both."""
    notes = directory / "notes"
    notes.mkdir()
    suite = directory / "suite"
    suite.mkdir()
    (suite / "test_suite.py").write_text(REMOTE.format(notes=str(notes)))
    places = []
    for name in ("left", "right"):
        (directory / name).mkdir()
        places += [
            "--tx",
            f"ssh={name}//ssh_config={directory}/ssh_config//python={sys.executable}//chdir={directory}/{name}",
        ]
    argv = [sys.executable, "-m", "pytest", NO_CACHE, "-v", "--dist=load", f"--rsyncdir={suite}", *places, str(suite)]
    done = machines[2].run(argv, check=False, env=environment(), cwd=directory, timeout=100)
    assert "8 passed" in done.stdout, done.stdout + done.stderr
    assert {note.name.split()[1] for note in notes.iterdir()} == {"left", "right"}


def test_a_run_inside_a_namespace_of_a_worker(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    """A test in an xdist worker runs pytest in a namespace: that is no worker, though it inherits the worker's environment."""
    pytester.makepyfile(
        inner="""
        def test_inner(netns):
            assert netns.add_namespace("red").run("hostname").stdout == "red\\n"
        """,
        test_outer="""
        import pathlib, sys

        def test_outer(netns):
            inner = pathlib.Path(__file__).with_name("inner.py")
            arguments = ["-p", "no:cacheprovider", "--netns-unavailable=fail", str(inner)]
            assert "1 passed" in netns.host.run([sys.executable, "-m", "pytest", *arguments]).stdout
        """,
    )
    mode = request.config.getoption("netns_mode") or "auto"
    result = pytester.runpytest_subprocess(
        "-p", "xdist", "-n1", NO_CACHE, f"--netns-mode={mode}", "--netns-unavailable=fail"
    )
    result.assert_outcomes(passed=1)

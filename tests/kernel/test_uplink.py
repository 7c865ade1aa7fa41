"""Uplinks: from a namespace to pytest's own network, which in these tests is a namespace of an outer lab."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_netns import InvalidTopologyError, Lab, UnavailableError
from pytest_netns.kernel.system import once
from pytest_netns.machine import uplink

TUN = "/dev/net/tun"
INNER = """
def test_out(netns):
    red = netns.add_namespace("red")
    assert red.run("curl -s --max-time 1 http://203.0.113.2/", check=False).returncode
    uplink = red.add_uplink()
    print("ADDRESS", uplink.address)
    assert "Directory listing" in red.run("curl -sS --max-time 10 http://203.0.113.2/").stdout
    assert str(red.resolver[0]) == str(uplink.resolver)
    blue = netns.add_namespace("blue")
    assert blue.run("curl -s --max-time 1 http://203.0.113.2/", check=False).returncode
    uplink.remove()
    netns.wait_until(lambda: "uplink0" not in red.interfaces)
"""
NEVER_ENDS = """
def test_out(netns):
    netns.add_namespace("red").add_uplink()
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Lab]:
    """A machine with a route to a server at 203.0.113.2: the real network for a pytest that runs there."""
    with Lab("outer") as lab:
        machine, server = lab.add_namespace("machine"), lab.add_namespace("server")
        lab.add_veth(machine, server, addresses=("203.0.113.1/24", "203.0.113.2/24"))
        server.start(["python3", "-u", "-m", "http.server", "80"], ready=80, cwd=tmp_path)
        yield lab


def run_inside(lab: Lab, path: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a test file in a pytest whose own network is the machine's."""
    (path / "test_inner.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
        "--netns-unavailable=fail",
        *arguments,
    ]
    done: subprocess.CompletedProcess[str] = lab["machine"].run(
        [*command, str(path)], cwd=path, check=False, timeout=60
    )
    return done


needs_tun = pytest.mark.skipif(
    not os.access(TUN, os.R_OK | os.W_OK), reason=f"needs root: {TUN} may not be opened by this user"
)


@needs_tun
def test_out_and_only_where_asked_for(laptop: Lab, tmp_path: Path) -> None:
    """A namespace with an uplink reaches the real network, with the machine's address; others do not; it can be removed."""
    with laptop.capture() as packets:
        done = run_inside(laptop, tmp_path, INNER, "--netns-mode=root")
    assert done.returncode == 0, done.stdout
    seen = {packet.source for packet in packets if packet.namespace == "server" and packet.protocol == "tcp"}
    assert seen == {"203.0.113.1", "203.0.113.2"}


@needs_tun
def test_nothing_outlives_pytest(laptop: Lab, tmp_path: Path) -> None:
    """After SIGKILL of pytest neither slirp4netns nor its helper remains."""
    done = run_inside(laptop, tmp_path, NEVER_ENDS, "--netns-mode=root")
    assert done.returncode == -9
    laptop.wait_until(lambda: "slirp4netns" not in laptop["machine"].run("ps -e -o args").stdout, timeout=10)
    laptop.wait_until(lambda: "uplink_agent" not in laptop["machine"].run("ps -e -o args").stdout, timeout=10)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes another /dev/net/tun")
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_rootless(laptop: Lab, tmp_path: Path, workers: tuple[str, ...]) -> None:
    """An ordinary user in rootless mode has an uplink if the helper starts before pytest moves, in an xdist worker too."""
    (tmp_path / "test_inner.py").write_text(INNER)
    pytest_command = (
        f"{sys.executable} -m pytest -q -s -p no:cacheprovider --netns-mode=rootless --netns-unavailable=fail"
    )
    script = f"""
        set -e
        mount -t tmpfs -o mode=1777 tmpfs /mnt
        cp {tmp_path}/test_inner.py /mnt
        mknod -m 666 /mnt/tun c 10 200
        mount --bind /mnt/tun {TUN}
        cd /mnt
        exec setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/mnt {pytest_command} \
            --netns-uplink=slirp4netns {" ".join(workers)} --basetemp=/mnt/base /mnt/test_inner.py
    """
    done = laptop["machine"].run(["unshare", "--mount", "sh", "-c", script], check=False, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rootless_without_the_helper(pytester: pytest.Pytester) -> None:
    """Without netns_uplink the error in a rootless run names the option."""
    pytester.makepyfile("def test_out(netns):\n    netns.add_namespace('red').add_uplink()\n")
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--netns-mode=rootless", "--netns-unavailable=fail"
    )
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*moved into a user namespace*", "*netns_uplink = slirp4netns*"])


def test_what_cannot_be_an_uplink(netns: Lab) -> None:
    """A network that is too small, a used name, a second default route: each is named, and nothing remains."""
    red = netns.add_namespace("red")
    with pytest.raises(
        InvalidTopologyError, match=r"cannot use '10\.0\.2\.0/30' as network of an uplink: it must be IPv4, /25"
    ):
        red.add_uplink(network="10.0.2.0/30")
    with pytest.raises(InvalidTopologyError, match="cannot use 'fd00::/64' as network of an uplink"):
        red.add_uplink(network="fd00::/64")
    blue = netns.add_namespace("blue")
    netns.add_veth(red, blue, addresses=("10.0.0.1/24", "10.0.0.2/24"), names=("eth0", "eth0"))
    with pytest.raises(InvalidTopologyError, match=r"cannot add uplink 'eth0'.*has an interface of that name"):
        red.add_uplink("eth0")
    red.add_default_route(via="10.0.0.2")
    with pytest.raises(InvalidTopologyError, match="it already has an IPv4 default route"):
        red.add_uplink()
    assert set(red.interfaces) == {"lo", "eth0"}


def test_without_slirp4netns(netns: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is not installed, the error names the package."""
    monkeypatch.setattr("pytest_netns.machine.uplink.find_program", lambda: None)
    monkeypatch.setattr("pytest_netns.kernel.system.privileges.in_own_user_namespace", lambda: False)
    monkeypatch.setattr("pytest_netns.machine.uplink._path", "")
    no_connection = once.PerProcess(uplink._connect, close=socket.socket.close)  # an earlier test may have connected
    monkeypatch.setattr("pytest_netns.machine.uplink._connection", no_connection)
    with pytest.raises(UnavailableError, match=r"slirp4netns is not installed\n.*sudo apt-get install slirp4netns"):
        netns.add_namespace("red").add_uplink()

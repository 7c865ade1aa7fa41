"""Machines without /proc, and root with only the two capabilities that containers are told to add."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environments import IS_ROOT

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="needs root: other mounts and capabilities")
PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:asyncio",
    "--netns-unavailable=skip",
    "test_it.py",
]
TEST = """
import socket
import pytest
from pytest_netns import UnavailableError

def test_it(netns_pair):
    red = netns_pair["red"]
    assert "veth-red" in red.run("ip -br link").stdout
    assert red.call(lambda: 42) == 42
    with red:
        socket.create_server(("192.168.15.1", 8080)).close()
    with pytest.raises(UnavailableError, match="cannot use private files of a namespace: .*CAP_SYS_CHROOT"):
        red.tmpfs("/run")

@pytest.mark.netns
def test_marked():
    socket.create_server(("127.0.0.1", 8080)).close()
"""


def run(directory: Path, *command: str) -> str:
    """The output of a run of pytest with a command prefix."""
    (directory / "test_it.py").write_text(TEST)
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_two_capabilities(tmp_path: Path) -> None:
    """With only SYS_ADMIN and NET_ADMIN everything but the view of files works; what needs it reports what is missing."""
    only = "--bounding-set=-all,+sys_admin,+net_admin"
    output = run(tmp_path, "setpriv", only, "--inh-caps=-all", *PYTEST)
    assert "2 passed" in output, output
    assert "mount namespace: entering it requires CAP_SYS_CHROOT" in output


@pytest.mark.parametrize("mode", ["auto", "root", "rootless"])
def test_without_proc(tmp_path: Path, mode: str) -> None:
    """Tests that use netns are skipped with the command that fixes it, in every mode; the doctor agrees."""
    python = f"{sys.executable} -m pytest_netns doctor"
    script = f'mount -t tmpfs tmpfs /proc; "$@" --netns-mode={mode}; {python}'
    output = run(tmp_path, "unshare", "--mount", "sh", "-c", script, "sh", *PYTEST)
    assert "2 skipped" in output, output
    assert "INTERNALERROR" not in output
    assert "cannot use network namespaces: /proc is not mounted here\n  remedy: mount -t proc proc /proc" in output
    assert "It does NOT work here" in output

"""/sys and /proc/net of Python code: those of its namespace in a marked body (as root) and in calls."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_netns import Lab

ROOT = os.geteuid() == 0


def interfaces_below_sys() -> list[str]:
    """The interfaces in /sys/class/net."""
    return sorted(os.listdir("/sys/class/net"))


def interfaces_below_proc() -> list[str]:
    """The files that psutil and others read."""
    return sorted(line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:])


def test_calls(netns_pair: Lab) -> None:
    """In a call, on any thread, both are the namespace's."""
    red = netns_pair["red"]
    for _ in range(2):
        assert red.call(interfaces_below_sys) == ["lo", "veth-red"]
        assert red.call(interfaces_below_proc) == ["lo", "veth-red"]
    assert red.call(lambda: subprocess.check_output(["cat", "/proc/net/dev"], text=True)).count("veth-red") == 1
    assert netns_pair["blue"].call(interfaces_below_proc) == ["lo", "veth-blue"]


BODY = """
import os, subprocess, threading
from pathlib import Path
import pytest

MOUNTS = "/proc/thread-self/ns/mnt"
home = os.stat(MOUNTS).st_ino

def listed():
    return sorted(os.listdir("/sys/class/net"))

@pytest.mark.netns("pair", enter="red")
@pytest.mark.parametrize("end", ["well", "chdir", "failure"])
def test_body(netns, end, tmp_path, monkeypatch):
    assert listed() == ["lo", "veth-red"]
    assert subprocess.check_output(["ls", "/sys/class/net"], text=True).split() == ["lo", "veth-red"]
    found = []
    thread = threading.Thread(target=lambda: found.append(listed()))
    thread.start(); thread.join()
    assert found == [["lo", "veth-red"]]
    Path("/sys/class/net/lo/mtu").write_text("1234")
    assert netns["red"].interfaces["lo"].mtu == 1234
    assert sorted(os.listdir("/sys/fs/cgroup")) == GROUPS
    netns["red"].run("ping -c1 -W2 blue")
    if end == "chdir":
        os.chdir(tmp_path)
    assert end != "failure"

GROUPS = sorted(os.listdir("/sys/fs/cgroup")) if os.path.isdir("/sys/fs/cgroup") else []

def test_after():
    assert os.stat(MOUNTS).st_ino == home
    assert listed() == ["lo"]
    assert Path("/sys/class/net/lo/mtu").read_text() == "65536\\n"
    assert sorted(os.listdir("/sys/fs/cgroup")) == GROUPS
"""


@pytest.mark.skipif(not ROOT, reason="needs root: an ordinary user cannot change anything by /sys")
def test_a_marked_body_changes_its_own_interfaces_only(tmp_path: Path) -> None:
    """/sys/class/net lists the namespace's interfaces; writes do not reach the machine (here: one that stands for it)."""
    (tmp_path / "test_body.py").write_text(BODY)
    script = f"mount -t sysfs sysfs /sys && ip link set lo up && {sys.executable} -m pytest -q -p no:cacheprovider -p no:asyncio test_body.py"
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "1 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    assert 'assert end != "failure"' in done.stdout

"""Private directories and files of a namespace, its host name, and its path for other programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_netns import InvalidTopologyError, KernelError, Lab, Namespace, NamespaceSpec, NetnsError, Topology
from tests.support.processes import eventually

ABSENT = "/var/lib/pytest-netns-absent/deeper"
CONFIGURATION = "/etc/pytest-netns-absent/frr.conf"


def read(namespace: Namespace, path: str | Path) -> str:
    """A file's contents as read by a program in the namespace."""
    return str(namespace.run(["cat", path]).stdout)


def made(netns: Lab, how: str) -> Namespace:
    """A namespace with private directories and files, created by a call, a Topology, or TOML."""
    if how == "call":
        return netns.add_namespace("r1", private=["/run", ABSENT], files={CONFIGURATION: "router bgp 1\n"})
    topology = Topology([NamespaceSpec("r1", private=["/run", ABSENT], files={CONFIGURATION: "router bgp 1\n"})])
    netns.build(topology if how == "topology" else Topology.loads(topology.dumps()))
    return netns["r1"]


@pytest.mark.parametrize("how", ["call", "topology", "toml"])
def test_private_directories_and_files(netns: Lab, how: str) -> None:
    """They exist before the first program, in programs and calls, in no other namespace, and never on the machine."""
    before = sorted(os.listdir("/run"))
    r1, r2 = made(netns, how), netns.add_namespace("r2")
    assert read(r1, CONFIGURATION) == "router bgp 1\n"
    assert r1.call(Path(CONFIGURATION).read_text) == "router bgp 1\n"
    assert r1.run(["ls", ABSENT]).stdout == ""
    assert set(r1.run("ls /run").stdout.split()) == {"netns"}  # which belongs to the namespace anyway
    r1.run(["sh", "-c", f"echo 7 > /run/frr.pid; echo ours > {ABSENT}/state; echo more >> {CONFIGURATION}"])
    assert r1.call(Path("/run/frr.pid").read_text) == "7\n"
    assert r1.call(Path(ABSENT, "state").read_text) == "ours\n"
    assert read(r1, CONFIGURATION) == "router bgp 1\nmore\n"
    assert read(r1, "/etc/passwd") == Path("/etc/passwd").read_text()
    assert set(r1.run("ip netns").stdout.split()) >= {"r1", "r2"}
    assert r1.run("getent hosts r1").stdout
    assert r2.run(["ls", ABSENT], check=False).returncode != 0
    assert not Path(ABSENT).parent.exists()
    assert not Path(CONFIGURATION).parent.exists()
    assert sorted(os.listdir("/run")) == before


def test_a_file_of_the_machine_is_covered(netns: Lab, tmp_path: Path) -> None:
    """The new file has the owner and mode of the covered one, which stays unchanged."""
    real = tmp_path / "server.conf"
    real.write_text("real")
    real.chmod(0o640)
    red = netns.add_namespace("red", files={str(real): "ours", str(tmp_path / "new.conf"): "new"})
    assert read(red, real) == "ours"
    assert read(red, tmp_path / "new.conf") == "new"
    status, inside = real.stat(), red.call(real.stat)
    assert (inside.st_uid, inside.st_gid, inside.st_mode) == (status.st_uid, status.st_gid, status.st_mode)
    red.run(["sh", "-c", f"echo changed > {real}"])
    assert real.read_text() == "real"
    assert os.listdir(tmp_path) == ["server.conf"]


def test_a_private_directory_has_the_owner_of_the_one_it_covers(netns: Lab, tmp_path: Path) -> None:
    """A server that checks the owner of its directory accepts it."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o750)
    if os.geteuid() == 0:
        os.chown(directory, 1234, 1235)
    red = netns.add_namespace("red", private=str(directory))
    inside, outside = red.call(directory.stat), directory.stat()
    assert (inside.st_uid, inside.st_gid, inside.st_mode) == (outside.st_uid, outside.st_gid, outside.st_mode)
    assert inside.st_dev != outside.st_dev


@pytest.mark.parametrize("called_before", [False, True])
def test_tmpfs_and_bind_later(netns: Lab, tmp_path: Path, called_before: bool) -> None:
    """`tmpfs` empties a directory, `bind` shows one elsewhere; programs, including running ones, and calls see both."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("real")
    (tmp_path / "covered").mkdir()
    (tmp_path / "covered" / "hidden").write_text("")
    shell = red.popen("sh", stdin=-1, stdout=-1)
    if called_before:
        red.call(len, "")
    red.tmpfs(tmp_path / "covered")
    red.bind(tmp_path / "data", tmp_path / "shown")
    red.bind(tmp_path / "data" / "file", tmp_path / "covered" / "copy", read_only=True)
    output, _ = shell.communicate(f"ls {tmp_path}/covered; cat {tmp_path}/shown/file\n")
    assert output == "copy\nreal"
    assert red.call(os.listdir, tmp_path / "covered") == ["copy"]
    assert red.call((tmp_path / "shown" / "file").read_text) == "real"
    refused = red.run(["sh", "-c", f"echo x > {tmp_path}/covered/copy"], check=False)
    assert "Read-only file system" in refused.stderr
    red.run(["sh", "-c", f"echo written > {tmp_path}/shown/file"])
    assert (tmp_path / "data" / "file").read_text() == "written\n"
    assert blue.run(["ls", tmp_path / "covered"]).stdout == "hidden\n"
    assert sorted(os.listdir(tmp_path)) == ["covered", "data"]


def test_what_cannot_be_made_says_why(netns: Lab, tmp_path: Path) -> None:
    """A file instead of a directory, a missing source, a path in the root directory: the error names it, the namespace keeps working."""
    red = netns.add_namespace("red")
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelError, match=f"cannot make a private {tmp_path}/file/below in namespace 'red'"):
        red.tmpfs(tmp_path / "file" / "below")
    with pytest.raises(KernelError, match=f"cannot bind {tmp_path}/absent to /tmp in namespace 'red': No such file"):
        red.bind(tmp_path / "absent", "/tmp")
    with pytest.raises(KernelError, match="nothing can be added to the root directory"):
        red.tmpfs("/pytest-netns-absent")
    red.run("true")
    blue = netns.add_namespace("blue", files={"/pytest-netns-absent": ""})
    with pytest.raises(NetnsError, match="cannot write a private /pytest-netns-absent in namespace 'blue'"):
        blue.run("true")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"private": ["run"]}, "cannot use 'run' as private directory: write an absolute path"),
        ({"private": ["/a/../b"]}, "cannot use '/a/../b' as private directory"),
        ({"private": "/etc"}, "every program needs what is in it"),
        ({"private": ["/proc/sys"]}, "each namespace already has its own /proc and /sys"),
        ({"private": [7]}, "cannot use 7 as private directory"),
        ({"files": {"/etc/motd": 7}}, "cannot use 7 as content of file '/etc/motd': write text"),
        ({"files": {"motd": ""}}, "cannot use 'motd' as file: write an absolute path"),
        ({"files": 7}, "cannot use 7 as files: write paths with contents"),
        ({"hostname": "a b"}, "cannot use 'a b' as host name"),
        ({"hostname": "blue"}, "cannot add host name 'blue': a namespace of this lab has that name"),
    ],
)
def test_bad_values_leave_nothing(netns: Lab, options: dict[str, object], message: str) -> None:
    """Values are checked before the namespace is created."""
    netns.add_namespace("blue")
    with pytest.raises(InvalidTopologyError, match=message):
        netns.add_namespace("red", **options)  # type: ignore[arg-type]
    assert "red" not in netns


def test_host_names(netns: Lab) -> None:
    """Programs see the namespace's host name; others resolve it, its first label, and the namespace's name."""
    ns2 = netns.add_namespace("two", hostname="ns-2.example.com")
    netns.build(Topology([NamespaceSpec("three", hostname="ns-3.example.com")]))
    netns.add_veth(ns2, netns["three"], addresses=("10.0.0.2/24", "10.0.0.3/24"))
    assert ns2.run("hostname").stdout.strip() == "ns-2.example.com"
    assert netns["three"].run("hostname -f").stdout.strip() == "ns-3.example.com"
    for name in ("ns-3.example.com", "ns-3", "three"):
        assert ns2.run(["getent", "ahostsv4", name]).stdout.split()[0] == "10.0.0.3"


def test_current(netns: Lab) -> None:
    """The innermost block's namespace, in any thread; None outside."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    assert Namespace.current() is None
    with red:
        assert Namespace.current() is red
        with blue:
            assert Namespace.current() is blue
        assert Namespace.current() is red
    assert Namespace.current() is None
    assert blue.call(Namespace.current) is blue


def number_of(namespace: Namespace) -> int:
    """The inode of its network namespace."""
    return int(namespace.call(os.stat, "/proc/thread-self/ns/net").st_ino)


def test_the_path_of_a_namespace(netns: Lab) -> None:
    """It is valid outside, in programs started before and after it was read, and in calls."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    early = red.popen("sh", stdin=-1, stdout=-1)
    red.call(len, "")
    path = blue.path
    expected = number_of(blue)
    assert os.stat(path).st_ino == expected
    assert int(early.communicate(f"stat -L -c %i {path}\n")[0]) == expected
    assert int(red.run(["stat", "-L", "-c", "%i", path]).stdout) == expected
    assert red.call(os.stat, path).st_ino == expected
    with red:
        assert os.stat(path).st_ino == expected
    late = netns.add_namespace("late")
    assert int(late.run(["stat", "-L", "-c", "%i", path]).stdout) == expected
    assert blue.path == path
    assert red.path != path


def test_the_path_is_for_commands(netns: Lab) -> None:
    """nsenter and ip accept it, outside and inside."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    netns.add_veth(red, blue, names=("a", "b"))
    listing = subprocess.run(
        ["nsenter", f"--net={blue.path}", "ip", "-br", "link"], capture_output=True, text=True, check=True
    ).stdout
    assert "b@" in listing
    red.run("ip link add moved type veth peer name stays")
    red.run(["ip", "link", "set", "moved", "netns", blue.path])
    assert "moved" in blue.interfaces


def test_the_path_of_a_closed_lab() -> None:
    """The error says that the lab is closed."""
    with Lab() as lab:
        red = lab.add_namespace("red")
    with pytest.raises(NetnsError, match="its lab is closed"):
        _ = red.path


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), 9)"])
def test_nothing_of_a_path_is_left(end: str) -> None:
    """However the process ends, the directory of the path is removed."""
    script = (
        "import os\nfrom pytest_netns import Lab\nlab = Lab()\nred = lab.add_namespace('red')\n"
        f"print(red.path, flush=True)\nred.run('true')\n{end}\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    directory = Path(done.stdout.strip()).parent
    assert directory.name.startswith("pytest-netns-")
    eventually(lambda: not directory.exists(), "the directory is removed")

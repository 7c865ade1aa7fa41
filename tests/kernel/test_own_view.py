"""What programs see of named namespaces and of host names: /run/netns is private, /etc/hosts independent of the machine's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_netns import InvalidTopologyError, Lab, Namespace


def listed(namespace: Namespace) -> set[str]:
    """The output of ``ip netns``."""
    return {line.split()[0] for line in namespace.run("ip netns").stdout.splitlines()}


def real_names() -> set[str]:
    """The named namespaces of the machine."""
    return set(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else set()


def test_commands_of_every_tutorial(netns_lan: Lab) -> None:
    """`ip netns` lists the lab's namespaces; `ip netns exec` and `ip -n` enter them."""
    host = netns_lan.host
    assert listed(host) == {"host", "red", "blue"}
    assert " 0% packet loss" in host.run("ip netns exec red ping -c1 192.168.15.2").stdout
    assert "veth-red" in host.run("ip -n red link").stdout
    assert "veth-blue" not in host.run("ip -n red link").stdout
    netns_lan.add_namespace("late")
    assert listed(host) == {"host", "red", "blue", "late"}


def test_interfaces_move_by_name(netns: Lab) -> None:
    """`ip link set ... netns NAME` and veth pairs made by programs across namespaces."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    red.run("ip link add veth-a type veth peer name veth-b")
    red.run("ip link set veth-b netns blue")
    assert set(red.interfaces) == {"lo", "veth-a"}
    assert set(blue.interfaces) == {"lo", "veth-b"}


def test_what_ip_netns_makes_stays_in_its_view(netns: Lab) -> None:
    """Two namespaces can each create one of the same name; no other namespace, nor the machine, sees it."""
    before = real_names()
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    for namespace in (red, blue):
        namespace.run("ip netns add inner")
        namespace.run("ip -n inner link set lo up")
        assert listed(namespace) == {"red", "blue", "inner"}
    red.run("ip netns delete inner")
    assert listed(red) == {"red", "blue"}
    assert listed(blue) == {"red", "blue", "inner"}
    assert real_names() == before


def test_deleting_all_is_a_matter_of_the_view(netns: Lab, tmp_path: Path) -> None:
    """`ip -all netns delete` removes only the names of that view: the lab keeps working, and a name of the machine stays."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    red.run("ip -all netns delete")
    assert listed(red) == set()
    assert listed(blue) == {"red", "blue"}
    red.run("true")


REAL = """
import os
def test_real(netns):
    red = netns.add_namespace("red")
    assert "real" in os.listdir("/run/netns")
    assert "real" not in red.run("ip netns").stdout
    assert red.run("ip netns exec real true", check=False).returncode != 0
    red.run("ip -all netns delete")
    assert "real" in os.listdir("/run/netns")
"""


def test_names_of_the_machine_are_out_of_reach(tmp_path: Path) -> None:
    """A named namespace of the machine (here a mount namespace stands for it) is neither seen nor deleted."""
    if os.geteuid() != 0:
        pytest.skip("needs root: making a named namespace on the machine")
    (tmp_path / "test_real.py").write_text(REAL)
    script = (
        "mkdir -p run && mount -t tmpfs tmpfs run && mkdir run/netns && mount --rbind run /run && ip netns add real && "
        f"{sys.executable} -m pytest -q -p no:cacheprovider -p no:asyncio test_real.py"
    )
    done = subprocess.run(
        ["unshare", "-m", "-n", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_python_code_has_the_names_too(netns: Lab) -> None:
    """In a call, /run/netns has the lab's namespaces, including those added later."""
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    assert red.call(os.stat, "/run/netns/blue").st_ino == blue.call(os.stat, "/proc/thread-self/ns/net").st_ino
    late = netns.add_namespace("late")
    assert red.call(os.stat, "/run/netns/late").st_ino == late.call(os.stat, "/proc/thread-self/ns/net").st_ino


def test_canonical_names(netns: Lab) -> None:
    """Two host names of one address have separate lines; a namespace's full name is its canonical one."""
    red = netns.add_namespace("red")
    netns.add_hostname("a.example.com", "192.0.2.1")
    netns.add_hostname("b.example.com", "192.0.2.1")
    netns.add_hostname("red.example.com", red)
    netns.add_hostname("www.example.org", red)
    assert red.run("hostname -f").stdout.strip() == "red.example.com"
    for name in ("a.example.com", "b.example.com", "www.example.org"):
        found = red.call(socket.getaddrinfo, name, None, 0, socket.SOCK_STREAM, 0, socket.AI_CANONNAME)
        assert found[0][3] == name


def test_the_machine_s_name_leads_to_oneself(netns: Lab) -> None:
    """`gethostbyname(gethostname())`, which servers call at their start, works in programs, calls and blocks."""
    red = netns.add_namespace("red")
    assert red.run(["getent", "hosts", os.uname().nodename]).stdout
    with red:
        assert socket.gethostbyname(os.uname().nodename).startswith("127.")
        assert socket.gethostbyname(socket.gethostname())


@pytest.mark.parametrize("called_before", [False, True])
def test_mounts_of_programs_are_seen_by_calls_and_lookups(netns: Lab, tmp_path: Path, called_before: bool) -> None:
    """Mounts by a program are visible in calls, on threads created before and after; and the other way round."""
    red = netns.add_namespace("red")
    for name in ("ours", "theirs"):
        (tmp_path / name).write_text(name)
    (tmp_path / "hosts").write_text("10.1.2.3 printer\n")
    if called_before:
        red.call(len, "")
    red.run(["mount", "--bind", tmp_path / "ours", tmp_path / "theirs"])
    red.run(["mount", "--bind", tmp_path / "hosts", "/etc/hosts"])
    assert red.call((tmp_path / "theirs").read_text) == "ours"
    with red:
        assert socket.gethostbyname("printer") == "10.1.2.3"
    red.call(lambda: subprocess.run(["umount", tmp_path / "theirs"], check=True))
    assert red.run(["cat", tmp_path / "theirs"]).stdout == "theirs"
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_a_hidden_umask_hides_nothing(netns: Lab) -> None:
    """Whatever the umask of the user who started pytest, every user can read the namespace's names."""
    if os.geteuid() != 0:
        pytest.skip("needs root: changing the user")
    script = (
        "import os; os.umask(0o077)\n"
        "from pytest_netns import Lab\n"
        "with Lab() as lab:\n"
        "    red = lab.add_namespace('red')\n"
        "    print(red.run('getent hosts red', user='nobody').stdout)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["127.0.0.1", "red"], done.stderr


REPLACED = """
import os, pytest
def replace(name):
    with open(f"/etc/{name}", "rb") as old, open(f"/etc/{name}.new", "wb") as new:
        new.write(old.read())
    os.rename(f"/etc/{name}.new", f"/etc/{name}")

@pytest.mark.parametrize("name", ["hosts", "resolv.conf", "nsswitch.conf"])
def test_replaced(netns_pair, name):
    red = netns_pair["red"]
    red.resolver = ["192.168.15.2"]
    assert red.run("getent hosts blue").stdout
    replace(name)
    assert red.run("getent hosts blue").stdout
    assert "192.168.15.2" in red.run("cat /etc/resolv.conf").stdout
    assert red.run("head -n1 /etc/nsswitch.conf").stdout == "hosts: files dns\\n"
    replace(name)
    with red:
        import socket
        assert socket.gethostbyname("blue") == "192.168.15.2"
"""


@pytest.mark.parametrize(
    "prepare",
    [
        "true",
        r"sed -i '1i # f\o374r Namen' /etc/nsswitch.conf && sed -i '1i # \o374' /etc/hosts",
    ],
    ids=["replaced", "latin1"],
)
def test_files_of_the_machine_that_change(tmp_path: Path, prepare: str) -> None:
    """If the machine's /etc/hosts, resolv.conf and nsswitch.conf are replaced while a lab is open, or have another encoding, the view keeps its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a copy of /etc")
    (tmp_path / "test_replaced.py").write_text(REPLACED)
    script = (
        f"cp -a /etc etc && mount --bind etc /etc && touch /etc/resolv.conf && {prepare} && "
        f"{sys.executable} -m pytest -q -p no:cacheprovider -p no:asyncio test_replaced.py"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


READ_ONLY_RUN = """
import os
MACHINE = os.environ["MACHINE"]

def test_run(netns):
    red = netns.add_namespace("red")
    before = set(os.listdir(MACHINE))
    assert set(red.run("ls /run").stdout.split()) == {"netns", *before}
    assert red.run("cat /run/directory/file /run/link").stdout == "oneone"
    with open(f"{MACHINE}/later", "w") as file:
        file.write("two")
    assert red.run("cat /run/later").stdout == "two"
    os.unlink(f"{MACHINE}/later")
    assert red.run("test -L /run/later", check=False).returncode == 1
    red.run("ip netns add inner")
    red.run("touch /run/red.pid")
    assert "inner" in red.run("ip netns").stdout
    assert "red.pid" in red.run("ls /run").stdout
    assert set(os.listdir(MACHINE)) == before >= {"directory", "link"}
"""


def test_where_no_directory_can_be_made_in_run(tmp_path: Path) -> None:
    """/run is replaced by one with links to its contents, which stay up to date; nothing is written to the machine's."""
    (tmp_path / "test_run.py").write_text(READ_ONLY_RUN)
    script = (
        "set -e; mkdir machine; mount -t tmpfs tmpfs machine; mkdir machine/directory; printf one >machine/directory/file; "
        "ln -s directory/file machine/link; mount --bind machine /run; mount -o remount,ro,bind /run; "
        f"export MACHINE=$PWD/machine; exec {sys.executable} -m pytest -q -p no:cacheprovider -p no:asyncio test_run.py"
    )
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *users, "--mount", "--net", "sh", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_long_names(netns: Lab) -> None:
    """A namespace's name can be longer than an interface's; its interfaces get names that fit."""
    primary, replica = netns.add_namespace("postgres-primary"), netns.add_namespace("postgres-replica-of-the-first")
    netns.add_veth(primary, replica, addresses=("10.0.0.1/24", "10.0.0.2/24"))
    primary.run("ping -c1 -W2 postgres-replica-of-the-first")
    assert primary.run("hostname").stdout.strip() == "postgres-primary"
    with pytest.raises(InvalidTopologyError, match="1 to 63 characters"):
        netns.add_namespace("x" * 64)

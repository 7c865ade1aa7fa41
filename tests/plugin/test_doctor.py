"""The doctor in prepared environments: the messages a user would get in each."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.support.environments import (
    IS_ROOT,
    MASK_PROC,
    OTHER,
    Argv,
    as_root,
    environment,
    filtered,
    ordinary_user,
    run_doctor,
    shell,
    without_capabilities,
)

NETLINK_NETFILTER = 12  # linux/netlink.h
IN_OWN_MOUNTS = [*as_root(), "unshare", "--mount"]
IN_OWN_USERS = [*as_root(), "unshare", "--user", "--map-root-user"]
IN_USERS_AND_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount", "--net"]
READ_ONLY = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys"
CONTAINER = ("unshare:EPERM", "setns:EPERM", "mount:EPERM", "clone3:ENOSYS")  # refused by Docker's default filter
# Settings that other kernels have in /proc/sys/kernel; setpriv reads cap_last_cap there.
KERNEL = """
last=$(cat /proc/sys/kernel/cap_last_cap)
mount -t tmpfs tmpfs /proc/sys/kernel
echo $last >/proc/sys/kernel/cap_last_cap
echo {value} >/proc/sys/kernel/{name}
"""
UBUNTU = KERNEL.format(name="apparmor_restrict_unprivileged_userns", value=1)
OLD_DEBIAN = KERNEL.format(name="unprivileged_userns_clone", value=0)
# If ping has no file capability (Debian 13) it needs none; elsewhere, and here, it needs CAP_NET_RAW: 1 << 13,
# of struct vfs_cap_data in version 2, and effective.
PING = f"""
mount -t tmpfs tmpfs /mnt
cp $(command -v ping) /mnt/ping
{sys.executable} -c 'import os; os.setxattr("/mnt/ping", "security.capability", \
    (0x02000001).to_bytes(4, "little") + (1 << 13).to_bytes(4, "little") + bytes(12))'
mount --bind /mnt/ping $(readlink -f $(command -v ping))
"""
UID = OTHER if IS_ROOT else 0  # the user after `unprivileged` inside IN_OWN_MOUNTS
UID_MAP = len(f"{UID} {UID} 1")  # bytes; no other output is written in one piece of that size
CHROOT = """
dir=$(mktemp -d PARENT/root.XXXXXX)
for entry in /*; do
    if [ -L $entry ]; then cp -d $entry $dir/
    elif [ -d $entry ]; then mkdir $dir$entry; mount --rbind $entry $dir$entry 2>/dev/null || true
    fi
done
exec chroot $dir "$@"
"""


def unprivileged() -> Argv:
    """A command prefix, in IN_OWN_MOUNTS: an unprivileged user, who may write a user namespace's uid_map."""
    return ordinary_user() if IS_ROOT else ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]


ROWS: list[tuple[str, Argv, str, str, str]] = [
    (
        "docker, default",
        [*without_capabilities("sys_admin"), *filtered(*CONTAINER)],
        "namespaces/network",
        "a seccomp filter refuses it, as container runtimes' default does",
        "--cap-add SYS_ADMIN --cap-add NET_ADMIN",
    ),
    (
        "docker with SYS_ADMIN and AppArmor",
        [*as_root(), *filtered("mount:EACCES")],
        "namespaces/mount",
        "AppArmor forbids mounts in this container",
        "--security-opt apparmor=unconfined",
    ),
    (
        "Ubuntu 24.04, GitHub's runners",
        [*IN_OWN_MOUNTS, *shell(UBUNTU), *unprivileged(), *filtered(f"write/2={UID_MAP}:EPERM")],
        "namespaces/user",
        "AppArmor lets programs without a profile make user namespaces but not use them",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run pytest under sudo",
    ),
    (
        "old Debian",
        [*IN_OWN_MOUNTS, *shell(OLD_DEBIAN), *unprivileged(), *filtered("unshare:EPERM")],
        "namespaces/user",
        "kernel.unprivileged_userns_clone is 0",
        "sudo sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "setns refused",
        filtered("setns:EPERM"),
        "namespaces/network",
        "a seccomp filter refuses it, as container runtimes' default does",
        "--cap-add SYS_ADMIN --cap-add NET_ADMIN",
    ),
    (
        "mount refused",
        [*as_root(), *filtered("mount:EPERM")],
        "views/own /proc",
        "a seccomp filter refuses it, as container runtimes' default does",
        "--security-opt seccomp=unconfined",
    ),
    (
        "gVisor, WSL2: no nftables",
        [*as_root(), *filtered(f"socket/2={NETLINK_NETFILTER}:EPROTONOSUPPORT")],
        "NAT/nft",
        "this kernel lacks it, or its module is not loaded (Protocol not supported, EPROTONOSUPPORT)",
        "sudo modprobe nf_tables",
    ),
    (
        "read-only /proc/sys",
        [*IN_OWN_MOUNTS, *shell(READ_ONLY), *IN_USERS_AND_MOUNTS],
        "views/write settings",
        "/proc/sys is mounted read-only (Read-only file system, EROFS)",
        "mount -o remount,rw /proc/sys",
    ),
    (
        "masked /proc",
        [*IN_OWN_MOUNTS, *shell(MASK_PROC), *IN_USERS_AND_MOUNTS],
        "views/own /proc",
        "parts of it are hidden by other mounts",
        "systempaths=unconfined",
    ),
    (
        "no user namespaces left",
        [
            *IN_OWN_USERS,
            *shell("echo 0 >/proc/sys/user/max_user_namespaces"),
            *("setpriv", "--bounding-set=-all", "--inh-caps=-all"),
        ],
        "namespaces/user",
        "user.max_user_namespaces is 0",
        "sudo sysctl -w user.max_user_namespaces=",
    ),
    (
        "no network namespaces left",
        [*IN_OWN_USERS, *shell("echo 0 >/proc/sys/user/max_net_namespaces")],
        "namespaces/network",
        "user.max_net_namespaces is reached: it is 0 (No space left on device, ENOSPC)",
        "sudo sysctl -w user.max_net_namespaces=",
    ),
    *(
        (
            f"no {name}s left",
            [*IN_OWN_USERS, *shell(f"echo 0 >/proc/sys/user/max_{short}_namespaces")],
            f"namespaces/{name.removesuffix(' namespace')}",
            f"user.max_{short}_namespaces is reached: it is 0 (No space left on device, ENOSPC)",
            f"sudo sysctl -w user.max_{short}_namespaces=",
        )
        for name, short in (("PID namespace", "pid"), ("mount namespace", "mnt"), ("host name", "uts"))
    ),
    (
        "root without any capability",
        without_capabilities("all"),
        "namespaces/user",
        "root's own uid can be mapped only with CAP_SETFCAP",
        "--cap-add SETFCAP",
    ),
    (
        "no /dev/net/tun",
        [*IN_OWN_MOUNTS, *shell("mount -t tmpfs tmpfs /dev/net")],
        "interfaces/tun",
        "there is no /dev/net/tun",
        "--device /dev/net/tun",
    ),
    (
        "/dev/net/tun of another user",
        [
            *IN_OWN_MOUNTS,
            *shell("mount -t tmpfs tmpfs /dev/net; touch /dev/net/tun; chmod 0 /dev/net/tun"),
            *("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"),
        ],
        "interfaces/tun",
        "/dev/net/tun may not be opened (Permission denied, EACCES)",
        "sudo chmod 666 /dev/net/tun",
    ),
    (
        "podman with SYS_ADMIN and NET_ADMIN",
        [*IN_OWN_MOUNTS, *shell(PING), *without_capabilities("net_raw")[len(as_root()) :]],
        "programs/ping",
        "this container lacks CAP_NET_RAW",
        "--cap-add NET_RAW",
    ),
    (
        "no nft bindings",
        [*IN_OWN_MOUNTS, *shell("mount -t tmpfs tmpfs /usr/lib/python3/dist-packages")],
        "NAT/nft",
        "nft's Python bindings (module nftables) are not installed",
        "sudo apt-get install python3-nftables",
    ),
    (
        "few open files",
        shell("ulimit -n 200"),
        "limits/open files",
        "no more than 200",
        "ulimit -n",
    ),
]


@pytest.mark.parametrize(("prefix", "row", "cause", "remedy"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_cause_and_the_remedy_are_named(prefix: Argv, row: str, cause: str, remedy: str) -> None:
    """A failed feature names its cause and the command that fixes it, in the table and for scripts."""
    _, found, table = run_doctor(prefix)
    assert not found["rows"][row]["ok"], table
    assert cause in found["rows"][row]["cause"]
    assert remedy in found["rows"][row]["remedy"]
    assert cause.split("(")[0].strip() in " ".join(table.split())


@pytest.mark.parametrize(
    ("prefix", "status", "modes"),
    [
        ([], 0, None),
        (ordinary_user(), 0, ["rootless"]),
        (without_capabilities("sys_admin"), 0, ["rootless"]),
        (without_capabilities("net_admin"), 0, ["rootless"]),
        (["unshare", "--user", "--map-root-user"], 0, ["rootless"]),
        ([*as_root(), *filtered("mount:EACCES")], 0, ["root", "rootless"]),
        ([*as_root(), *filtered("clone3:ENOSYS")], 0, ["root", "rootless"]),
        ([*ordinary_user(), *filtered(*CONTAINER)], 1, []),
    ],
    ids=[
        "here",
        "ordinary user",
        "root without CAP_SYS_ADMIN",
        "root without CAP_NET_ADMIN",
        "unshare without --net",
        "no mounts",
        "no clone3",
        "filtered",
    ],
)
def test_the_exit_status_says_whether_labs_can_be_made(prefix: Argv, status: int, modes: list[str] | None) -> None:
    """0 exactly if a namespace with a veth pair can be created, in any mode."""
    code, found, table = run_doctor(prefix)
    assert code == status, table
    assert found["works"] == (status == 0)
    assert modes is None or found["modes"] == modes


def test_what_needs_a_namespace_is_not_blamed_as_well() -> None:
    """If no namespace can be created there is one cause to fix, and it is shown once."""
    _, _, table = run_doctor([*ordinary_user(), *filtered(*CONTAINER)])
    assert table.count(" NO ") == 1
    assert re.search(r"not tried, since there is no network namespace: the other \d\d features$", table, re.M)


@pytest.fixture
def in_chroot() -> Iterator[Argv]:
    """A command prefix: in a chroot that looks like the machine itself."""
    with tempfile.TemporaryDirectory(prefix="netns-chroot.") as parent:  # other runs of this test have theirs
        yield [*IN_OWN_MOUNTS, *shell(CHROOT.replace("PARENT", parent))]


def test_a_chroot_is_recognised(in_chroot: Argv) -> None:
    """In a chroot the kernel forbids user namespaces; it still works as root."""
    code, found, _ = run_doctor(in_chroot)
    assert "this process runs in a chroot" in found["rows"]["namespaces/user"]["cause"]
    assert (code, found["modes"]) == (0, ["root"])


def test_a_kind_the_kernel_lacks_is_not_shown_as_working() -> None:
    """A feature shown as working has been tried: a non-existent kind of interface is missing, with the way to load it."""
    code = (
        "from pytest_netns.machine import probes, probing\n"
        "from pytest_netns.parts.links.kinds.kind import LinkKind\n"
        "probes.kind_named = LinkKind\n"
        "kind = probing.Probe('interfaces', 'nosuchkind', '', lambda: probes._link('nosuchkind'))\n"
        "(result,) = probing.run([kind])\n"
        "print(result.ok, result.cause, result.remedy, sep=chr(10))"
    )
    done = subprocess.run(
        [*as_root(), sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "False",
        "this kernel lacks it, or its module is not loaded (Unknown device type: Operation not supported, ENOTSUP)",
        "sudo modprobe nosuchkind",
    ]


def test_gateways_are_tried_with_their_own_examples() -> None:
    """A port forward, a home router and a firewall are created as in labs; if nft refuses one, it is named."""
    _, found, table = run_doctor(as_root())
    assert all(found["rows"][f"NAT/{name}"]["ok"] for name in ("port forward", "home router", "firewall")), table
    code = (
        "from pytest_netns.machine import probes, probing\n"
        "text = probes.firewall.example().replace('reject', 'refuse')\n"
        "(result,) = probing.run([probing.Probe('NAT', 'firewall', '', lambda: probes._nft('firewall', text))])\n"
        "print(result.ok, result.cause)"
    )
    done = subprocess.run(
        [*as_root(), sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("False")
    assert "syntax error" in done.stdout


def test_unknown_subcommand_names_the_known_ones() -> None:
    """The error for a mistyped command lists the right ones."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest_netns", "doctr"], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "doctor" in done.stderr


def test_not_on_linux() -> None:
    """On other systems the doctor names its requirements, and uses nothing of Linux."""
    code = (
        "import sys; sys.platform = 'darwin'; from pytest_netns.__main__ import main; status = main(['doctor', '--json']); "
        "assert not [name for name in sys.modules if name.startswith('pytest_netns.kernel.')]; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["probes"][0]["cause"] == "it needs Linux"

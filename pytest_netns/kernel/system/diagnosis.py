"""Known refusals of the kernel: the cause, and the command that fixes it.

Each row has the failed step, its error numbers, a further condition on this machine, and the
cause and the remedy. The first match applies.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

from pytest_netns.kernel.system import privileges

CONTAINER = "docker run --cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt apparmor=unconfined ..."
_APPARMOR = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run pytest under sudo"
_UNMASK = "--security-opt systempaths=unconfined (podman: --security-opt unmask=ALL; Kubernetes: procMount: Unmasked)"
_CAP_SETFCAP = 31


class _Row(NamedTuple):
    steps: tuple[str, ...]  # prefixes of the step's name
    errnos: tuple[int, ...]
    cause: str
    remedy: str
    condition: Callable[[], bool] = lambda: True
    setting: str = ""  # its value is shown; a path below /proc/sys


_NOT_ALLOWED = (errno.EPERM, errno.EACCES, errno.ENOSYS)
_NAMESPACES = ("user namespace", "network namespace", "PID namespace", "mount namespace", "host name")
_MOUNTS = ("mount namespace", "own /etc/hosts", "own /proc", "own /sys")


def read_sysctl(name: str) -> str:
    """Read a setting by its path below /proc/sys; empty if there is none."""
    try:
        with open(f"/proc/sys/{name}", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _is(name: str, value: str) -> Callable[[], bool]:
    return lambda: read_sysctl(name) == value


def _in_chroot() -> bool:
    """Whether the root directory is no mount point: the kernel forbids user namespaces there, user_namespaces(7)."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            return not any(line.split()[4] == "/" for line in mounts)
    except OSError:
        return False


def _status(field: str) -> str:
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
            return next((line.split()[1] for line in status if line.startswith(f"{field}:")), "")
    except OSError:
        return ""


def _is_filtered() -> bool:
    return _status("Seccomp") == "2"


def _lacks_setfcap() -> bool:
    """Whether CAP_SETFCAP is missing, which mapping uid 0 requires, user_namespaces(7)."""
    return os.geteuid() == 0 and not int(_status("CapBnd") or "0", 16) >> _CAP_SETFCAP & 1


_ROWS = (
    _Row(
        ("user namespace",),
        (errno.ENOSPC, errno.EUSERS),
        "user.max_user_namespaces is 0",
        "sudo sysctl -w user.max_user_namespaces=10000",
        _is("user/max_user_namespaces", "0"),
    ),
    _Row(
        ("user namespace",),
        (errno.ENOSPC, errno.EUSERS),
        "user.max_user_namespaces are in use",
        "sudo sysctl -w user.max_user_namespaces=10000",
    ),
    _Row(
        ("network namespace",),
        (errno.ENOSPC,),
        "user.max_net_namespaces is reached",
        "sudo sysctl -w user.max_net_namespaces=100000",
        setting="user/max_net_namespaces",
    ),
    _Row(
        ("PID namespace",),
        (errno.ENOSPC,),
        "user.max_pid_namespaces is reached",
        "sudo sysctl -w user.max_pid_namespaces=100000",
        setting="user/max_pid_namespaces",
    ),
    _Row(
        ("mount namespace",),
        (errno.ENOSPC,),
        "user.max_mnt_namespaces is reached",
        "sudo sysctl -w user.max_mnt_namespaces=100000",
        setting="user/max_mnt_namespaces",
    ),
    _Row(
        ("host name",),
        (errno.ENOSPC,),
        "user.max_uts_namespaces is reached",
        "sudo sysctl -w user.max_uts_namespaces=100000",
        setting="user/max_uts_namespaces",
    ),
    _Row(
        _NAMESPACES,
        (errno.EINVAL,),
        "this kernel is built without it",
        "use a kernel with CONFIG_USER_NS, CONFIG_NET_NS, CONFIG_PID_NS and CONFIG_UTS_NS",
        lambda: not os.path.exists("/proc/self/ns/user") or not os.path.exists("/proc/self/ns/net"),
    ),
    _Row(
        ("user namespace",),
        _NOT_ALLOWED,
        "kernel.unprivileged_userns_clone is 0",
        "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        _is("kernel/unprivileged_userns_clone", "0"),
    ),
    _Row(
        ("user namespace", "setgroups", "uid_map", "gid_map", "network namespace", "capset"),
        (errno.EPERM, errno.EACCES),
        "AppArmor lets programs without a profile make user namespaces but not use them "
        "(Ubuntu 23.10 and newer, GitHub's runners)",
        _APPARMOR,
        _is("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ),
    _Row(
        ("uid_map",),
        (errno.EPERM,),
        "root's own uid can be mapped only with CAP_SETFCAP, which this process lacks",
        "start the container with --cap-add SETFCAP, or run pytest as an ordinary user",
        _lacks_setfcap,
    ),
    _Row(
        _MOUNTS,
        (errno.EACCES,),
        "AppArmor forbids mounts in this container",
        "start the container with --security-opt apparmor=unconfined",
    ),
    _Row(
        _NAMESPACES,
        _NOT_ALLOWED,
        "a seccomp filter refuses it, as container runtimes' default does",
        f"start the container with {CONTAINER} or, to stay without privilege, --security-opt seccomp=unconfined",
        _is_filtered,
    ),
    _Row(
        ("user namespace",),
        (errno.EPERM,),
        "this process runs in a chroot, where the kernel forbids user namespaces",
        "run outside of the chroot, or as root; or enter the directory with systemd-nspawn or pivot_root",
        _in_chroot,
    ),
    _Row(
        ("network namespace",),
        (errno.EPERM,),
        "this process lacks CAP_SYS_ADMIN",
        f"run as root, or with --netns-mode=rootless; in a container: {CONTAINER}",
        lambda: not privileges.is_privileged(),
    ),
    _Row(
        ("network namespace",),
        (errno.EPERM,),
        "this process is in a user namespace but not in a network namespace of it, and could not return to its own",
        "start it with: unshare --user --map-root-user --net ..., or use --netns-mode=rootless",
    ),
    _Row(
        ("own /proc", "own /sys"),
        (errno.EPERM,),
        "parts of it are hidden by other mounts, so the kernel refuses a new one",
        f"start the container with {_UNMASK}",
    ),
    _Row(
        _MOUNTS,
        (errno.EINVAL,),
        "this process runs in a chroot that is no mount point",
        "sudo mount --bind DIRECTORY DIRECTORY, before the chroot",
        _in_chroot,
    ),
    _Row(_MOUNTS, (errno.EPERM,), "mounts are forbidden", f"start the container with {CONTAINER}"),
    _Row(
        ("sysctl",),
        (errno.EROFS,),
        "/proc/sys is mounted read-only",
        f"sudo mount -o remount,rw /proc/sys; or start the container with {_UNMASK}",
    ),
    _Row(
        ("interface tun",),
        (errno.ENOENT, errno.ENXIO, errno.ENODEV),
        "there is no /dev/net/tun",
        "sudo modprobe tun; in a container: --device /dev/net/tun",
    ),
    _Row(
        ("interface tun",),
        (errno.EPERM, errno.EACCES),
        "/dev/net/tun may not be opened",
        "sudo chmod 666 /dev/net/tun; in a container: --device /dev/net/tun",
    ),
    _Row(
        ("ping",),
        (errno.EPERM,),
        "this container lacks CAP_NET_RAW, which the ping executable requires",
        "start the container with --cap-add NET_RAW",
    ),
    _Row(
        ("IPv6",),
        (errno.EAFNOSUPPORT,),
        "this kernel was started with ipv6.disable=1, or is built without IPv6",
        "remove ipv6.disable=1 from the kernel's parameters (/etc/default/grub, then sudo update-grub) and reboot",
    ),
    _Row(
        ("nft tables of family",),
        (errno.EOPNOTSUPP, errno.EAFNOSUPPORT),
        "this kernel is built without it",
        "use a kernel with CONFIG_NF_TABLES_INET, CONFIG_NF_TABLES_IPV4 and CONFIG_NF_TABLES_IPV6",
    ),
    _Row(
        ("interface", "qdisc", "nft"),
        (errno.EOPNOTSUPP, errno.ENOENT, errno.ENODEV, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT),
        "this kernel lacks it, or its module is not loaded",
        "",  # `_module` names the command
    ),
)
# The kernel modules of features, by prefix of the step.
_MODULES = {
    "interface bond": "bonding",
    "interface gre": "ip_gre",
    "interface ip6gre": "ip6_gre",
    "interface ip6tnl": "ip6_tunnel",
    "interface vlan": "8021q",
    "interface vti6": "ip6_vti",
    "interface vti": "ip_vti",
    "interface xfrm": "xfrm_interface",
    "qdisc netem": "sch_netem",
    "qdisc tbf": "sch_tbf",
    "nft masquerade": "nft_masq",
    "nft DNAT": "nft_nat",
    "nft port forward": "nft_nat",
    "nft home router": "nft_nat",
    "nft firewall": "nft_reject_inet",
    "nft": "nf_tables",
}


def explain(step: str, number: int, message: str = "") -> tuple[str, str]:
    """Explain a refusal.

    Args:
        step: what was tried, with one of the prefixes above, such as ``"uid_map"``.
        number: the error number; 0 for none.
        message: a further message of the kernel or a program.

    Returns:
        The cause, with the kernel's error in brackets, and the remedy; empty if none is known.
    """
    shown = _format_error(number, message)
    for row in _ROWS:
        if step.startswith(row.steps) and number in row.errnos and row.condition():
            value = f": it is {read_sysctl(row.setting)}" if row.setting else ""
            return f"{row.cause}{value} ({shown})", row.remedy or _load(step)
    if number in (errno.EPERM, errno.EACCES):
        return f"it is refused ({shown})", f"run pytest as root; in a container: {CONTAINER}"
    return shown or "it failed", ""


def _format_error(number: int, message: str) -> str:
    code = errno.errorcode.get(number, str(number))
    numbers = f"{os.strerror(number)}, {code}" if number else ""
    return ": ".join(part for part in (message, numbers) if part)


def _load(step: str) -> str:
    module = next((name for prefix, name in _MODULES.items() if step.startswith(prefix)), step.split()[-1])
    return f"sudo modprobe {module}"

"""Settings below /proc/sys/net in the calling thread's network namespace: reading, writing, initial values."""

from __future__ import annotations

import contextlib
import errno
import functools
import os

from pytest_netns.kernel.system import syscalls

_ROOT = "/proc/sys/net"


def write(key: str, value: str) -> None:
    """Write a setting; the key is its path below /proc/sys/net."""
    try:
        fd = os.open(f"{_ROOT}/{key}", os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EROFS or (proc := _new_proc()) is None:
            raise
        fd = os.open(f"sys/net/{key}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read(key: str) -> str:
    """A setting's value."""
    with open(f"{_ROOT}/{key}", encoding="utf-8", errors="replace") as file:
        return file.read().strip()


# The kernel's own defaults for all interfaces, if not 0; net/ipv4/devinet.c of Linux.
_DEFAULTS_FOR_ALL = dict.fromkeys(
    ["accept_redirects", "secure_redirects", "send_redirects", "shared_media", "arp_evict_nocarrier"], "1"
) | {"igmpv2_unsolicited_report_interval": "10000", "igmpv3_unsolicited_report_interval": "1000"}
_DEFAULTS_FOR_NEW = _DEFAULTS_FOR_ALL | {"accept_source_route": "1"}


@functools.cache
def defaults() -> dict[str, str]:
    """The initial settings of a namespace, by key; first called by a thread in a new one."""
    wanted = {
        # Inherited from the host, and affecting tests.
        "ipv4/ip_forward": "0",
        "ipv4/conf/all/rp_filter": "0",
        "ipv4/conf/default/forwarding": "0",
        "ipv4/conf/default/rp_filter": "0",
        # An orphaned connection over a dead link would keep the namespace alive for 104 s; with one retry 0.7 s.
        "ipv4/tcp_orphan_retries": "1",
        "ipv4/ping_group_range": _all_groups(),
        # Without duplicate address detection an address is usable at once instead of after 1.6 s.
        "ipv6/conf/default/accept_dad": "0",
    }
    wanted |= _changed_on_host("all", _DEFAULTS_FOR_ALL)
    new = _changed_on_host("default", _DEFAULTS_FOR_NEW)
    wanted |= new | {key.replace("/default/", "/lo/"): value for key, value in new.items()}
    # 0 in a new namespace, unless it inherits the host's value: net.core.devconf_inherit_init_net.
    with contextlib.suppress(OSError):
        if read("ipv6/conf/all/accept_dad") != "0":
            wanted["ipv6/conf/all/accept_dad"] = "0"
    return wanted


def _changed_on_host(which: str, kernel_defaults: dict[str, str]) -> dict[str, str]:
    """The IPv4 interface settings that the machine's administrator has changed, which a new namespace inherits."""
    directory = f"ipv4/conf/{which}"
    wanted: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(f"{_ROOT}/{directory}"):
            if name not in ("forwarding", "mc_forwarding", "rp_filter") and read(
                f"{directory}/{name}"
            ) != kernel_defaults.get(name, "0"):
                wanted[f"{directory}/{name}"] = kernel_defaults.get(name, "0")
    return wanted


def _all_groups() -> str:
    """The range of all groups, so that every user may ping; in a user namespace the kernel accepts only mapped groups."""
    with open("/proc/self/gid_map", encoding="utf-8") as gid_map:
        lines = [[int(number) for number in line.split()] for line in gid_map]
    # The kernel compares the group ids outside.
    first, last = min(lines, key=lambda line: line[1]), max(lines, key=lambda line: line[1])
    return f"{first[0]} {min(last[0] + last[2] - 1, 2147483647)}"


@functools.cache
def _new_proc() -> int | None:
    """Mount a new /proc: containers mount theirs read-only, but may allow root another one. None if they do not."""
    try:
        return syscalls.mount_detached("proc")
    except OSError:
        return None

"""Settings below /proc/sys/net, those of the network namespace the calling thread is in: read, written, and what they start as."""

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
        if error.errno != errno.EROFS or (fresh := _fresh_proc()) is None:
            raise
        fd = os.open(f"sys/net/{key}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=fresh)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read(key: str) -> str:
    """A setting's value."""
    with open(f"{_ROOT}/{key}", encoding="utf-8", errors="replace") as file:
        return file.read().strip()


# What the kernel itself has for all interfaces, where that is not 0; net/ipv4/devinet.c of Linux.
_OF_INTERFACES = dict.fromkeys(
    ["accept_redirects", "secure_redirects", "send_redirects", "shared_media", "arp_evict_nocarrier"], "1"
) | {"igmpv2_unsolicited_report_interval": "10000", "igmpv3_unsolicited_report_interval": "1000"}
_OF_LATER_INTERFACES = _OF_INTERFACES | {"accept_source_route": "1"}


@functools.cache
def defaults() -> dict[str, str]:
    """What a namespace is to start with, by key; first called by a thread in a new one."""
    wanted = {
        # Inherited from the host, and they decide what tests see.
        "ipv4/ip_forward": "0",
        "ipv4/conf/all/rp_filter": "0",
        "ipv4/conf/default/forwarding": "0",
        "ipv4/conf/default/rp_filter": "0",
        # An orphaned connection over a dead cable would keep the namespace alive for 104 s; with one retry 0.7 s.
        "ipv4/tcp_orphan_retries": "1",
        "ipv4/ping_group_range": _all_groups(),
        # Without duplicate address detection an address is usable at once instead of after 1.6 s.
        "ipv6/conf/default/accept_dad": "0",
    }
    wanted |= _changed_on_host("all", _OF_INTERFACES)
    later = _changed_on_host("default", _OF_LATER_INTERFACES)
    wanted |= later | {key.replace("/default/", "/lo/"): value for key, value in later.items()}
    # The kernel's own value, unless the administrator has new namespaces inherit another: net.core.devconf_inherit_init_net.
    with contextlib.suppress(OSError):
        if read("ipv6/conf/all/accept_dad") != "0":
            wanted["ipv6/conf/all/accept_dad"] = "0"
    return wanted


def _changed_on_host(which: str, own: dict[str, str]) -> dict[str, str]:
    """The IPv4 settings of interfaces that the machine's administrator has changed: a new namespace has them from there."""
    directory = f"ipv4/conf/{which}"
    wanted = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(f"{_ROOT}/{directory}"):
            if name not in ("forwarding", "mc_forwarding", "rp_filter") and read(f"{directory}/{name}") != own.get(
                name, "0"
            ):
                wanted[f"{directory}/{name}"] = own.get(name, "0")
    return wanted


def _all_groups() -> str:
    """Every group may ping without privilege; in a user namespace only mapped groups are accepted."""
    with open("/proc/self/gid_map", encoding="utf-8") as gid_map:
        lines = [[int(number) for number in line.split()] for line in gid_map]
    # The kernel compares the numbers outside.
    first, last = min(lines, key=lambda line: line[1]), max(lines, key=lambda line: line[1])
    return f"{first[0]} {min(last[0] + last[2] - 1, 2147483647)}"


@functools.cache
def _fresh_proc() -> int | None:
    """A /proc of our own: containers mount theirs read-only, and may let root have another. None where they do not."""
    try:
        return syscalls.mount_detached("proc")
    except OSError:
        return None

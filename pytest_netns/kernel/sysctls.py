"""Settings below /proc/sys/net, those of the network namespace the calling thread is in: read, written, and what they start as."""

from __future__ import annotations

import errno
import functools
import os

from pytest_netns.kernel import syscalls

_ROOT = "/proc/sys/net"


class Directory:
    """A directory below /proc/sys/net, opened once for several settings.

    Each namespace that is alive has one of its own, by the same name in the same place, and the kernel goes through all
    of them whenever that name is looked up.

    Args:
        path: such as ``"ipv4"``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(f"{_ROOT}/{path}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.fd)


def write(key: str, value: str, directory: Directory | None = None) -> None:
    """Write a setting.

    Args:
        key: its path below /proc/sys/net.
        directory: one that it is in, if that is open.
    """
    try:
        if directory is None:
            fd = os.open(f"{_ROOT}/{key}", os.O_WRONLY | os.O_CLOEXEC)
        else:
            fd = os.open(key[len(directory.path) + 1 :], os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory.fd)
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
    with open(f"{_ROOT}/{key}", encoding="ascii", errors="replace") as file:
        return file.read().strip()


@functools.cache
def defaults() -> dict[str, dict[str, str]]:
    """What a new namespace is given: by directory, each setting's name there and its value."""
    return {
        "ipv4": {
            # Inherited from the host, and they decide what tests see.
            "ip_forward": "0",
            "conf/all/rp_filter": "0",
            "conf/default/rp_filter": "0",
            # An orphaned connection over a dead cable would keep the namespace alive for 104 s; with one retry 0.7 s.
            "tcp_orphan_retries": "1",
            "ping_group_range": _all_groups(),
        },
        # Without duplicate address detection an address is usable at once instead of after 1.6 s.
        "ipv6/conf": {"all/accept_dad": "0", "default/accept_dad": "0"},
    }


def _all_groups() -> str:
    """Every group may ping without privilege; in a user namespace only mapped groups are accepted."""
    with open("/proc/self/gid_map", encoding="ascii") as gid_map:
        first, _, count = (int(number) for number in gid_map.readline().split())
    return f"{first} {min(first + count - 1, 2147483647)}"


@functools.cache
def _fresh_proc() -> int | None:
    """A /proc of our own: containers mount theirs read-only, and may let root have another. None where they do not."""
    try:
        return syscalls.mount_detached("proc")
    except OSError:
        return None

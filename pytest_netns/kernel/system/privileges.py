"""The privileges of this process, read from /proc; cheap enough for every start of pytest."""

from __future__ import annotations

import os

_CAP_SETGID, _CAP_SETUID, _CAP_NET_ADMIN, _CAP_SYS_ADMIN = 6, 7, 12, 21


NO_PROC = "/proc is not mounted here"
MOUNT_PROC = "mount -t proc proc /proc"


def has_proc() -> bool:
    """Whether /proc is mounted, which describes the process and its namespaces."""
    return os.path.exists("/proc/self/ns/net")


def is_privileged() -> bool:
    """Whether this process may create network namespaces: it has CAP_SYS_ADMIN and CAP_NET_ADMIN."""
    return _has_capabilities(_CAP_SYS_ADMIN, _CAP_NET_ADMIN)


def _has_capabilities(*numbers: int) -> bool:
    with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
        mask = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    return all(mask >> number & 1 for number in numbers)


def thread_count() -> int:
    """The number of threads of this process; unshare(CLONE_NEWUSER) requires a single one."""
    return len(os.listdir("/proc/self/task"))


def in_own_user_namespace() -> bool:
    """Whether this process is in a user namespace created by rootless mode or unshare(1), rather than a container's."""
    uid = os.geteuid()
    if not any(inside == uid and count == 1 for inside, _, count in _uid_map()):
        return False
    try:
        return os.stat("/proc/1/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
    except OSError:  # may not be inspected
        return True


def has_other_users() -> bool:
    """Whether a program can switch to another user."""
    return sum(count for _, _, count in _uid_map()) > 1 and _has_capabilities(_CAP_SETUID, _CAP_SETGID)


def _uid_map() -> list[tuple[int, int, int]]:
    """The first uid inside, the first uid outside, and the count of each range: user_namespaces(7)."""
    with open("/proc/self/uid_map", encoding="utf-8") as uid_map:
        numbers = [int(number) for number in uid_map.read().split()]
    return list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))

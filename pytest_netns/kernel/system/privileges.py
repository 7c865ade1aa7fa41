"""What this process may do, read from /proc; cheap enough for every start of pytest."""

from __future__ import annotations

import os

_CAP_SETGID, _CAP_SETUID, _CAP_NET_ADMIN, _CAP_SYS_ADMIN = 6, 7, 12, 21


NO_PROC = "/proc is not mounted here"
MOUNT_PROC = "mount -t proc proc /proc"


def has_proc() -> bool:
    """Whether /proc is there, which tells a process what it is and where its namespaces are."""
    return os.path.exists("/proc/self/ns/net")


def is_privileged() -> bool:
    """Whether this process may make network namespaces as it is: it has CAP_SYS_ADMIN and CAP_NET_ADMIN."""
    return _has_capabilities(_CAP_SYS_ADMIN, _CAP_NET_ADMIN)


def _has_capabilities(*numbers: int) -> bool:
    with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
        mask = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    return all(mask >> number & 1 for number in numbers)


def thread_count() -> int:
    """How many threads this process has; unshare(CLONE_NEWUSER) takes no more than one."""
    return len(os.listdir("/proc/self/task"))


def in_own_user_namespace() -> bool:
    """Whether this process is in a user namespace that rootless mode or unshare(1) has made for it, rather than a container's."""
    own = os.geteuid()
    if not any(inside == own and count == 1 for inside, _, count in _uid_map()):
        return False
    try:
        return os.stat("/proc/1/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
    except OSError:  # not ours to look at
        return True


def has_other_users() -> bool:
    """Whether a program can become another user than this process's."""
    return sum(count for _, _, count in _uid_map()) > 1 and _has_capabilities(_CAP_SETUID, _CAP_SETGID)


def _uid_map() -> list[tuple[int, int, int]]:
    """First number inside, first number outside, how many: user_namespaces(7)."""
    with open("/proc/self/uid_map", encoding="utf-8") as uid_map:
        numbers = [int(number) for number in uid_map.read().split()]
    return list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))

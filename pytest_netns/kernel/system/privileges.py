"""What this process may do, read from /proc; cheap enough for every start of pytest."""

from __future__ import annotations

import os

_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21


def is_privileged() -> bool:
    """Whether this process may make network namespaces as it is: it has CAP_SYS_ADMIN and CAP_NET_ADMIN."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
        mask = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    needed = 1 << _CAP_SYS_ADMIN | 1 << _CAP_NET_ADMIN
    return mask & needed == needed


def thread_count() -> int:
    """How many threads this process has; unshare(CLONE_NEWUSER) takes no more than one."""
    return len(os.listdir("/proc/self/task"))


def in_own_user_namespace() -> bool:
    """Whether this process is in a user namespace with one user only, as rootless mode and unshare(1) make them."""
    with open("/proc/self/uid_map", encoding="utf-8") as uid_map:
        return uid_map.read().split()[2:] == ["1"]

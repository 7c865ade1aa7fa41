"""Find what keeps a network namespace alive: processes in it, and its descriptors, sockets and mounts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
from collections.abc import Iterator
from typing import NamedTuple

from pytest_netns.kernel.system import procfs

_SIOCGSKNS = 0x894C  # the network namespace of a socket, netdevice(7)
UNKNOWN = "nothing found in /proc: it may be a TCP connection that the kernel is still closing"


LIBRARY_REMEDY = "import and use the library outside of namespaces first, such as in conftest.py"


class Holder(NamedTuple):
    """What keeps a namespace alive.

    Attributes:
        text: describes it and its process.
        by_library: whether it is a thread of this process started by native code, which Python cannot end.
    """

    text: str
    by_library: bool = False


def find(inode: int) -> list[Holder]:
    """The holders of the namespace with this inode, as far as this process may inspect /proc."""
    link = f"net:[{inode}]"
    holders: list[Holder] = []
    for pid in procfs.pids():
        program = f"of process {pid} ({procfs.name(pid)})"
        holders += [Holder(f"{holder.text} {program}", holder.by_library) for holder in _held_by(pid, inode, link)]
    return holders


def suspects() -> list[str]:
    """A phrase for each unix socket with queued descriptors: the kernel reports their number, not what they refer to."""
    sockets: list[str] = []
    for pid in procfs.pids():
        sockets += [
            f"unix socket {descriptor} of process {pid} ({procfs.name(pid)}) has descriptors in flight ({count}), perhaps of it"
            for descriptor, count in _queued(pid)
        ]
    return sockets


def _queued(pid: int) -> Iterator[tuple[str, int]]:
    """The unix sockets of a process with descriptors in their queue, and the number of these; since Linux 5.6."""
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fdinfo"):
            count = int(_read(f"/proc/{pid}/fdinfo/{descriptor}").partition("scm_fds:")[2].split("\n")[0] or 0)
            if count:
                yield descriptor, count


def _held_by(pid: int, inode: int, link: str) -> Iterator[Holder]:
    yield from _threads(pid, link)
    yield from map(Holder, _open_or_mounted(pid, inode, link))


def _threads(pid: int, link: str) -> Iterator[Holder]:
    ours = {thread.native_id: thread.name for thread in threading.enumerate()} if pid == os.getpid() else None
    for thread in procfs.threads(pid):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/task/{thread}/ns/net") == link:
                native = ours is not None and thread not in ours
                name = _thread_name(pid, thread) if ours is None or native else ours[thread]
                shown = f" {name}" if thread != pid else ""
                yield Holder(f"{'native ' * native}thread {thread}{shown}", native)


def _open_or_mounted(pid: int, inode: int, link: str) -> Iterator[str]:
    """What a process has open or mounted."""
    for descriptor, target in procfs.open_files(pid).items():
        if target == link or re.fullmatch(r"/proc/\d+/(task/\d+/)?net/.*", target):
            yield f"descriptor {descriptor} ({target})"
        elif target.startswith("socket:") and _socket_is_of(pid, descriptor, inode):
            yield f"socket {descriptor}"
    with contextlib.suppress(OSError), open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            if f" {link} " in line:
                yield f"mount {line.split()[4]}"


def _socket_is_of(pid: int, descriptor: int, inode: int) -> bool:
    """Whether a process's socket belongs to the namespace."""
    copy = _copy_descriptor(pid, descriptor)
    if copy is None:
        return False
    try:
        namespace = fcntl.ioctl(copy, _SIOCGSKNS)
        try:
            return os.fstat(namespace).st_ino == inode
        finally:
            os.close(namespace)
    except OSError:
        return False
    finally:
        os.close(copy)


def _copy_descriptor(pid: int, descriptor: int) -> int | None:
    """A copy of a process's descriptor, pidfd_getfd(2); None if that is refused."""
    from pytest_netns.kernel.system import syscalls

    try:
        if pid == os.getpid():
            return os.dup(descriptor)
        pidfd = os.pidfd_open(pid)
        try:
            return syscalls.pidfd_getfd(pidfd, descriptor)
        finally:
            os.close(pidfd)
    except OSError:
        return None


def _thread_name(pid: int, thread: int) -> str:
    return _read(f"/proc/{pid}/task/{thread}/comm")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "ended"

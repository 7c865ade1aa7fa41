"""/sys of the network namespace that the calling thread is in: sysfs shows the interfaces of the namespace it was mounted in.

A thread that enters a network namespace goes on seeing the machine's /sys, and as root may change the machine's interfaces
by it. So a test's body has mounts of its own, with a /sys of its own, where the thread can come back from that: as real root.
"""

from __future__ import annotations

import contextlib
import os
import threading

from pytest_netns.kernel.spaces import moving
from pytest_netns.kernel.system import interrupts, syscalls

_THREAD_MOUNTS = "/proc/thread-self/ns/mnt"
_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


class _Away(threading.local):
    """Where the calling thread has to go back to: descriptors of its mounts and of its root directory; none at home."""

    def __init__(self) -> None:
        self.home: tuple[int, int] | None = None


_away = _Away()
_possible: bool | None = None  # whether this process can come back; not known before it was tried


class OwnSysfs:
    """A block during which /sys is that of the network namespace the calling thread is in (context manager).

    Threads and programs started in it see the same. Does nothing where the environment refuses it.
    """

    @interrupts.uninterrupted
    def __enter__(self) -> OwnSysfs:
        if _away.home is None and _can_return():
            try:
                _leave_home()
            except OSError:
                go_home()
        return self

    @interrupts.uninterrupted
    def __exit__(self, *exception: object) -> None:
        go_home()


@interrupts.uninterrupted
def go_home() -> None:
    """Put the calling thread back to the mounts it came from, or end the process."""
    home, _away.home = _away.home, None
    if home is None:
        return
    try:
        _return_to(*home)
    except OSError as error:
        moving.abort(f"cannot return to the mounts that the thread came from: {error}")
    finally:
        for fd in home:
            os.close(fd)


def _leave_home() -> None:
    _away.home = _here()
    syscalls.unshare(syscalls.CLONE_FS | syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    with contextlib.ExitStack() as stack:
        groups = -1
        if os.path.isdir("/sys/fs/cgroup"):
            groups = os.open("/sys/fs/cgroup", os.O_PATH | os.O_CLOEXEC)
            stack.callback(os.close, groups)
        syscalls.mount("sysfs", "/sys", "sysfs", _FLAGS)
        if groups >= 0:  # the control groups stay where they were
            source = f"/proc/thread-self/fd/{groups}"
            syscalls.mount(source, "/sys/fs/cgroup", "", syscalls.MS_BIND | syscalls.MS_REC)


def _here() -> tuple[int, int]:
    mounts = os.open(_THREAD_MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return mounts, os.open("/", os.O_PATH | os.O_CLOEXEC)
    except BaseException:
        os.close(mounts)
        raise


def _return_to(mounts: int, root: int) -> None:
    directory = None
    with contextlib.suppress(FileNotFoundError):  # it has been removed
        directory = os.getcwd()
    syscalls.unshare(syscalls.CLONE_FS)  # threads started inside share it
    syscalls.setns(mounts, syscalls.CLONE_NEWNS)
    if not os.path.samestat(os.stat("/"), os.fstat(root)):  # pytest runs in a chroot
        os.chdir(root)
        os.chroot(".")
    if directory is not None:
        with contextlib.suppress(OSError):
            os.chdir(directory)


def _can_return() -> bool:
    """Not so in a user namespace: the mounts that pytest was started with belong to the one outside."""
    global _possible
    if _possible is None:
        here = _here()
        try:
            _return_to(*here)
            _possible = True
        except OSError:
            _possible = False
        finally:
            for fd in here:
                os.close(fd)
    return _possible

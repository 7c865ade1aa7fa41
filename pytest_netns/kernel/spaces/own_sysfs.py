"""Mount /sys for the network namespace of the calling thread: sysfs shows the interfaces of the namespace it was mounted in.

A thread that enters a network namespace still sees the machine's /sys, and as root could change the machine's interfaces
by it. So a test's body gets its own mounts, with its own /sys, if the thread can return from them: as real root.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading

from pytest_netns.kernel.spaces import moving
from pytest_netns.kernel.system import interrupts, syscalls

_THREAD_MOUNTS = "/proc/thread-self/ns/mnt"
_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


class _Origin(threading.local):
    """The calling thread's original mounts and root directory, as descriptors; None while it is in them."""

    def __init__(self) -> None:
        self.mounts: tuple[int, int] | None = None


_origin = _Origin()


class OwnSysfs:
    """A block in which /sys is that of the calling thread's network namespace (context manager).

    Threads and programs started in it see the same. Does nothing if the environment refuses it.
    """

    @interrupts.uninterrupted
    def __enter__(self) -> OwnSysfs:
        if _origin.mounts is None and _can_return():
            try:
                _mount_sysfs()
            except OSError:
                restore()
        return self

    @interrupts.uninterrupted
    def __exit__(self, *exception: object) -> None:
        restore()


@interrupts.uninterrupted
def restore() -> None:
    """Move the calling thread back to the mounts it came from, or end the process."""
    origin, _origin.mounts = _origin.mounts, None
    if origin is None:
        return
    try:
        _return_to(*origin)
    except OSError as error:
        moving.abort(f"cannot return to the mounts that the thread came from: {error}")
    finally:
        for fd in origin:
            os.close(fd)


def _mount_sysfs() -> None:
    _origin.mounts = _current()
    syscalls.unshare(syscalls.CLONE_FS | syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    with contextlib.ExitStack() as stack:
        groups = -1
        with contextlib.suppress(FileNotFoundError):
            groups = os.open("/sys/fs/cgroup", os.O_PATH | os.O_CLOEXEC)
            stack.callback(os.close, groups)
        syscalls.mount("sysfs", "/sys", "sysfs", _FLAGS)
        if groups >= 0:  # the control groups stay where they were
            source = f"/proc/thread-self/fd/{groups}"
            syscalls.mount(source, "/sys/fs/cgroup", "", syscalls.MS_BIND | syscalls.MS_REC)


def _current() -> tuple[int, int]:
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


@functools.cache
def _can_return() -> bool:
    """Whether a thread can return; not in a user namespace, since pytest's original mounts belong to the one outside."""
    current = _current()
    try:
        _return_to(*current)
    except OSError:
        return False
    finally:
        for fd in current:
            os.close(fd)
    return True

"""Network namespaces without a name: made, entered, left.

A namespace is held by one close-on-exec descriptor alone, never bound under /run/netns: no name can collide, and when
the process dies, by SIGKILL too, the kernel frees it. The real host's namespace is never configured.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable

from pytest_netns.errors import KernelError, LabClosedError, UnavailableError
from pytest_netns.kernel.netlink import rtlinks
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.spaces import sysctls
from pytest_netns.kernel.spaces.interface_settings import InterfaceSettings
from pytest_netns.kernel.spaces.moving import THREAD_NAMESPACE, Stay
from pytest_netns.kernel.system import diagnosis, greenlets, syscalls

LOOPBACK_INDEX = 1
_CREATE_DEADLINE = 2.0  # seconds; freed namespaces are counted until the kernel has freed them, 1-33 ms later
_LOOPBACK_UP = rtlinks.set_link(LOOPBACK_INDEX, "lo", up=True)


_open: weakref.WeakValueDictionary[int, NetworkNamespace] = weakref.WeakValueDictionary()  # by inode
os.register_at_fork(after_in_child=_open.clear)  # a forked copy has descriptors of what is not its own


def are_open() -> bool:
    """Whether this process has made namespaces that are still open."""
    return bool(_open)


def find(inode: int) -> NetworkNamespace | None:
    """The open namespace of this process that has a number."""
    return _open.get(inode)


def is_foreign(inode: int) -> bool:
    """Whether a number is that of a namespace which this process has not made, and has not started in."""
    return inode not in _open and inode != os.fstat(_home_descriptor()).st_ino


class NetworkNamespace:
    """A network namespace held by a descriptor.

    Attributes:
        name: for errors.
        fd: the descriptor, close-on-exec; -1 once closed.
        inode: its number, the same that ``readlink /proc/PID/ns/net`` shows.
        netlink: a routing netlink socket that belongs to it.
        interface_settings: its IPv4 settings over netlink.
    """

    is_adopted = False  # whether somebody else has made it, so that what runs there is not ours to end

    def __init__(self, name: str, fd: int, netlink: NetlinkSocket) -> None:
        self.name = name
        self.fd = fd
        self.netlink = netlink
        self.interface_settings = InterfaceSettings(netlink)
        self.inode = os.fstat(fd).st_ino
        self._lock = (
            threading.RLock()
        )  # a descriptor closed by another thread may be another namespace's a moment later
        _open[self.inode] = self

    @classmethod
    def create(cls, name: str, first: Callable[[NetworkNamespace], None] | None = None) -> NetworkNamespace:
        """A new namespace with its loopback interface up; the calling thread stays where it is.

        Args:
            name: for errors.
            first: what to do with it while the thread is still inside.
        """
        if "gevent" in sys.modules or "eventlet" in sys.modules:
            greenlets.require_real_threads()
        _home_descriptor(name)
        with Stay(lambda: _unshare_with_retries(name), name):
            fd = os.open(THREAD_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
            try:
                namespace = cls(name, fd, NetlinkSocket(name))
            except BaseException:
                os.close(fd)
                raise
            try:
                namespace.netlink.request(_LOOPBACK_UP)
                namespace.set_defaults()
                if first is not None:
                    first(namespace)
            except BaseException:
                namespace.close()
                raise
        return namespace

    def set_defaults(self) -> None:
        """Run inside: the settings every namespace starts with.

        For each namespace the kernel makes those files of /proc/sys anew that somebody opens, and has them to free again,
        so what is right already is not written.
        """
        for key, value in sorted(sysctls.defaults().items() - self.interface_settings.inherited().items()):
            # No IPv6, or a read-only /proc/sys: what needs a setting that could not be made fails with its own error.
            with contextlib.suppress(OSError):
                self.write_sysctl(key, value)

    def write_sysctl(self, key: str, value: str) -> None:
        """Write below /proc/sys/net, or, where that is read-only, to each interface; the calling thread is inside."""
        try:
            sysctls.write(key, value)
        except OSError as error:
            if error.errno != errno.EROFS or not self.interface_settings.write(key, value):
                raise

    def opened(self) -> NetworkNamespace:
        """Itself, while it is open.

        Raises:
            LabClosedError: its lab is closed.
        """
        if self.fd < 0:
            raise LabClosedError(self.name)
        return self

    def entered(self) -> Stay:
        """A block during which the calling thread is inside."""
        return Stay(self.enter, self.name)

    def enter(self) -> None:
        """Move the calling thread inside."""
        with self._lock:
            if self.fd < 0:
                raise LabClosedError(self.name)
            try:
                syscalls.setns(self.fd, syscalls.CLONE_NEWNET)
            except OSError as error:
                raise KernelError("enter namespace", error.errno or errno.EIO, namespace=self.name) from error

    def open_netlink(self, protocol: int) -> NetlinkSocket:
        """Another netlink socket that belongs to it, for a protocol other than routing; its user closes it."""
        with self.entered():
            return NetlinkSocket(self.name, protocol)

    def close(self) -> None:
        """Let go of the namespace; the kernel frees it unless something else holds it. Idempotent."""
        if _open.get(self.inode) is self:
            del _open[self.inode]
        self.netlink.close()
        with self._lock:
            fd, self.fd = self.fd, -1
            if fd >= 0:
                os.close(fd)


_home = -1


def home() -> Stay:
    """A block during which the calling thread is in the namespace the process started in."""
    return Stay(go_home, "of the process itself")


def go_home() -> None:
    """Move the calling thread to the namespace the process started in, for good."""
    syscalls.setns(_home_descriptor(), syscalls.CLONE_NEWNET)


def _home_descriptor(name: str = "") -> int:
    """Opened when the first namespace is made, while no thread has entered one yet.

    Raises:
        UnavailableError: entering a namespace is refused; found out before a thread leaves, as it could not come back.
    """
    global _home
    if _home < 0:
        fd = os.open(THREAD_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
        except OSError as error:
            os.close(fd)
            raise _creation_error(name, error) from error
        _home = fd
    return _home


def _unshare_with_retries(name: str) -> None:
    deadline = time.monotonic() + _CREATE_DEADLINE
    delay = 0.001
    while True:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            return
        except OSError as error:
            if error.errno == errno.ENOSPC and time.monotonic() < deadline:
                threading.Event().wait(delay)
                delay *= 2
                continue
            raise _creation_error(name, error) from error


def _creation_error(name: str, error: OSError) -> Exception:
    number = error.errno or errno.EIO
    cause, remedy = diagnosis.explain("network namespace", number)
    if number in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        return UnavailableError("network namespaces", f"creating one is refused: {cause}", remedy)
    words = cause.partition(" (")[0] if remedy else ""
    return KernelError("create network namespace", number, namespace=name, kernel_message=words, remedy=remedy)

"""Anonymous network namespaces: creation, entering and leaving.

A namespace is held only by a close-on-exec descriptor, never bound under /run/netns: no name can collide, and when
the process dies, even by SIGKILL, the kernel frees it. The real host's namespace is never configured.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import weakref
from collections.abc import Callable

from pytest_netns.errors import KernelError, LabClosedError, UnavailableError
from pytest_netns.kernel.netlink import rtlinks
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.spaces import sysctls
from pytest_netns.kernel.spaces.interface_settings import InterfaceSettings
from pytest_netns.kernel.spaces.moving import THREAD_NAMESPACE, NamespaceBlock, open_current
from pytest_netns.kernel.system import diagnosis, forking, greenlets, syscalls
from pytest_netns.kernel.system.waiting import Deadline

LOOPBACK_INDEX = 1
_CREATE_DEADLINE = 2.0  # seconds; freed namespaces are counted until the kernel has freed them, 1-33 ms later
_LOOPBACK_UP = rtlinks.set_link(LOOPBACK_INDEX, "lo", up=True)


_open: dict[int, weakref.ref[NetworkNamespace]] = {}  # by inode
forking.in_child(_open.clear)  # a forked copy does not own these namespaces


def are_open() -> bool:
    """Whether this process has created namespaces that are still open."""
    return any(reference() is not None for reference in _open.values())


def find(inode: int) -> NetworkNamespace | None:
    """The open namespace of this process with an inode."""
    reference = _open.get(inode)
    return None if reference is None else reference()


def is_foreign(inode: int) -> bool:
    """Whether an inode is of a namespace that this process neither created nor started in."""
    return inode not in _open and inode != os.fstat(_home_descriptor()).st_ino


class NetworkNamespace:
    """A network namespace held by a descriptor.

    Attributes:
        name: for errors.
        fd: the descriptor, close-on-exec; -1 once closed.
        inode: its number, the same that ``readlink /proc/PID/ns/net`` shows.
        netlink: a routing netlink socket in it.
        interface_settings: its IPv4 settings over netlink.
    """

    is_adopted = False  # whether another program created it, so that its processes must not be ended

    def __init__(self, name: str, fd: int, netlink: NetlinkSocket) -> None:
        self.name = name
        self.fd = fd
        self.netlink = netlink
        self.interface_settings = InterfaceSettings(netlink)
        self.inode = os.fstat(fd).st_ino
        self._lock = threading.RLock()  # a descriptor closed by another thread may be reused for another namespace
        _open[self.inode] = weakref.ref(self)

    @classmethod
    def create(cls, name: str, first: Callable[[NetworkNamespace], None] | None = None) -> NetworkNamespace:
        """Create a namespace with its loopback interface up; the calling thread is then back where it was.

        Args:
            name: for errors.
            first: called with it while the thread is still inside.
        """
        if "gevent" in sys.modules or "eventlet" in sys.modules:
            greenlets.require_real_threads()
        _home_descriptor(name)
        with NamespaceBlock(lambda: _unshare_with_retries(name), name):
            fd = open_current()
            try:
                namespace = cls(name, fd, NetlinkSocket(name))
            except BaseException:
                os.close(fd)
                raise
            try:
                namespace.set_up_loopback()
                if first is not None:
                    first(namespace)
            except BaseException:
                namespace.close()
                raise
        return namespace

    def set_up_loopback(self) -> None:
        """Set the loopback interface up, and apply the settings every namespace starts with. Run inside.

        The kernel creates the /proc/sys files of a namespace when they are opened, and has to free them again,
        so values that are already right are not written.
        """
        inherited = self.interface_settings.inherited_after(_LOOPBACK_UP)
        for key, value in sorted(sysctls.defaults().items() - inherited.items()):
            try:
                self.write_sysctl(key, value)
            except OSError:  # no IPv6, or a read-only /proc/sys: what needs such a setting fails with its own error
                continue

    def write_sysctl(self, key: str, value: str) -> None:
        """Write below /proc/sys/net, or to each interface if that is read-only; the calling thread is inside."""
        try:
            sysctls.write(key, value)
        except OSError as error:
            if error.errno != errno.EROFS or not self.interface_settings.write(key, value):
                raise

    def opened(self) -> NetworkNamespace:
        """Return the namespace itself if it is open.

        Raises:
            LabClosedError: its lab is closed.
        """
        if self.fd < 0:
            raise LabClosedError(self.name)
        return self

    def entered(self) -> NamespaceBlock:
        """A block in which the calling thread is inside."""
        return NamespaceBlock(self.enter, self.name)

    def enter(self) -> None:
        """Move the calling thread into the namespace."""
        with self._lock:
            if self.fd < 0:
                raise LabClosedError(self.name)
            try:
                syscalls.setns(self.fd, syscalls.CLONE_NEWNET)
            except OSError as error:
                raise KernelError("enter namespace", error.errno or errno.EIO, namespace=self.name) from error

    def open_netlink(self, protocol: int) -> NetlinkSocket:
        """Open another netlink socket in it, for a protocol other than routing; the caller closes it."""
        with self.entered():
            return NetlinkSocket(self.name, protocol)

    def close(self) -> None:
        """Release the namespace; the kernel frees it unless something else holds it. Idempotent."""
        if find(self.inode) is self:
            del _open[self.inode]
        self.netlink.close()
        with self._lock:
            fd, self.fd = self.fd, -1
            if fd >= 0:
                os.close(fd)


_home = -1


def home() -> NamespaceBlock:
    """A block in which the calling thread is in the namespace the process started in."""
    return NamespaceBlock(go_home, "of the process itself")


def go_home() -> None:
    """Move the calling thread permanently to the namespace the process started in."""
    syscalls.setns(_home_descriptor(), syscalls.CLONE_NEWNET)


def _home_descriptor(name: str = "") -> int:
    """The descriptor of the initial namespace, opened before any thread has entered another one.

    Raises:
        UnavailableError: entering a namespace is refused; checked before a thread leaves, as it could not come back.
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
    deadline: Deadline | None = None
    while True:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            return
        except OSError as error:
            deadline = deadline or Deadline(_CREATE_DEADLINE, last=_CREATE_DEADLINE)
            if error.errno != errno.ENOSPC or deadline.is_over():
                raise _creation_error(name, error) from error
            deadline.pause()


def _creation_error(name: str, error: OSError) -> Exception:
    number = error.errno or errno.EIO
    cause, remedy = diagnosis.explain("network namespace", number)
    if number in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        return UnavailableError("network namespaces", f"creating one is refused: {cause}", remedy)
    message = cause.partition(" (")[0] if remedy else ""
    return KernelError("create network namespace", number, namespace=name, kernel_message=message, remedy=remedy)

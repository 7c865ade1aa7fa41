"""Network namespaces created by another program, such as a container's: used, then restored to their previous state.

Additions are recorded when they are requested, and removed at the end; what was there before and is missing is restored.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable

from pytest_netns.errors import InvalidTopologyError, KernelError, NetnsError, UnavailableError
from pytest_netns.kernel.netlink import rtaddresses, rtlinks, rtroutes
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.rtlinks import IFF_UP, LinkInfo
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.netlink.wire import NLM_F_CREATE
from pytest_netns.kernel.nft import nftables
from pytest_netns.kernel.spaces import netns, sysctls
from pytest_netns.kernel.spaces.moving import THREAD_NAMESPACE, NamespaceBlock
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import syscalls

_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_TABLE = re.compile(r"^table (\w+) (\S+)", re.MULTILINE)


class RecordingSocket(NetlinkSocket):
    """A routing netlink socket that records what was added through it."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self._added: list[Request] = []

    def request(self, *requests: Request) -> None:
        """See `NetlinkSocket.request`."""
        self._added += [request for request in requests if request.flags & NLM_F_CREATE]
        super().request(*requests)

    def remove_added(self) -> None:
        """Remove what was added, in reverse order; what is already gone is no error."""
        added, self._added = self._added, []
        for request in reversed(added):
            # The RTM_DEL message of an RTM_NEW one has the next number and takes the same body: rtnetlink(7).
            with contextlib.suppress(NetnsError):
                super().request(Request(("remove", *request.description[1:]), request.type + 1, request.body))


class AdoptedNamespace(NetworkNamespace):
    """A network namespace created by another program.

    Args:
        name: for errors.
        fd: its descriptor, closed by `close`.
    """

    is_adopted = True

    def __init__(self, name: str, fd: int, netlink: RecordingSocket) -> None:
        super().__init__(name, fd, netlink)
        self._recording = netlink
        self._links = {info.index: info for info in self._read_links()}
        self._addresses = dict(netlink.dump(rtaddresses.dump_addresses(), _address))
        self._routes = netlink.dump(rtroutes.dump_routes(), bytes)
        self._tables = self._nft_tables()
        self._sysctls: dict[str, str] = {}

    @classmethod
    def adopt(cls, name: str, path: str, first: Callable[[NetworkNamespace], None]) -> AdoptedNamespace:
        """Adopt the namespace at a path.

        Args:
            name: for errors.
            path: such as ``"/proc/4711/ns/net"``.
            first: called with it while the calling thread is inside.

        Raises:
            InvalidTopologyError: the path is no network namespace, or the one this process is in.
            UnavailableError: this process may not enter it.
        """
        fd = _open(name, path)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, fd)
            with NamespaceBlock(lambda: _enter(name, fd), name):
                netlink = RecordingSocket(name)
                undo.callback(netlink.close)
                namespace = cls(name, fd, netlink)
                first(namespace)
            undo.pop_all()
        return namespace

    def write_sysctl(self, key: str, value: str) -> None:
        """See `NetworkNamespace.write_sysctl`; the previous value is recorded."""
        if key not in self._sysctls:
            self._sysctls[key] = sysctls.read(key)
        super().write_sysctl(key, value)

    def close(self) -> None:
        """Restore its previous state and release it; idempotent."""
        if self.fd >= 0:
            try:
                self._restore()
            finally:
                super().close()

    def _restore(self) -> None:
        self._recording.remove_added()
        for family, table in self._nft_tables() - self._tables:
            with contextlib.suppress(NetnsError):
                nftables.apply(self, f"delete table {family} {table}")
        with self.entered():
            for key, value in reversed(self._sysctls.items()):
                with contextlib.suppress(OSError):  # of an interface that is gone
                    super().write_sysctl(key, value)
        for info in self._read_links():
            before = self._links.get(info.index)
            if before is not None:
                self._restore_link(info, before)
        present = dict(self.netlink.dump(rtaddresses.dump_addresses(), _address))
        missing = [body for key, body in self._addresses.items() if key not in present]
        requests = [rtaddresses.replay(body, rtaddresses.RTM_NEWADDR) for body in missing]
        requests += [rtroutes.replay(body) for body in self._routes if _is_static(body)]
        for request in requests:
            with contextlib.suppress(NetnsError):  # it exists
                self.netlink.request(request)

    def _restore_link(self, now: LinkInfo, before: LinkInfo) -> None:
        changes: list[Request] = []
        if now.mtu != before.mtu:
            changes.append(rtlinks.set_link(now.index, now.name, mtu=before.mtu))
        if now.mac != before.mac:
            changes.append(rtlinks.set_link(now.index, now.name, mac=before.mac))
        if (now.flags ^ before.flags) & IFF_UP:
            changes.append(rtlinks.set_link(now.index, now.name, up=bool(before.flags & IFF_UP)))
        if changes:
            self.netlink.request(*changes)

    def _read_links(self) -> list[LinkInfo]:
        return self.netlink.dump(rtlinks.dump_links(), rtlinks.parse_link)

    def _nft_tables(self) -> set[tuple[str, str]]:
        try:
            return set(_TABLE.findall(nftables.apply(self, "list tables")))
        except NetnsError:  # no nftables: then no tables of ours either
            return set()


def path_of(name: str, pid: int | None, path: str | os.PathLike[str] | None) -> str:
    """The path of a namespace given by a process in it, or by its path.

    Raises:
        InvalidTopologyError: neither or both are given, or the PID is invalid.
    """
    if (pid is None) == (path is None):
        raise InvalidTopologyError(f"cannot adopt namespace {name!r}: give either pid= or path=")
    if path is not None:
        return os.fspath(path)
    if isinstance(pid, bool) or not isinstance(pid, int) or pid <= 0:
        raise InvalidTopologyError(
            f"cannot adopt namespace {name!r}: {pid!r} is not a PID; write a number, such as 4711"
        )
    return f"/proc/{pid}/ns/net"


def _address(body: bytes) -> tuple[object, bytes]:
    info = rtaddresses.parse_address_info(body)
    return (info.link_index, info.address, info.peer), body


def _is_static(body: bytes) -> bool:
    """Whether a route is not restored by the kernel with its interface's addresses."""
    route = rtroutes.parse_looked_up(body)
    return any(rtroutes.is_static_by(route, hop.interface) for hop in route.hops)


def _open(name: str, path: str) -> int:
    import fcntl  # missing on Windows, on which suites for several systems import this module too

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise _refused(name, path) from error
    except OSError as error:
        raise InvalidTopologyError(f"cannot adopt namespace {name!r}: {path}: {error.strerror}") from error
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    try:
        if kind != syscalls.CLONE_NEWNET:
            raise InvalidTopologyError(f"cannot adopt namespace {name!r}: {path} is not a network namespace")
        with netns.home():
            current = os.stat(THREAD_NAMESPACE).st_ino
        if os.fstat(fd).st_ino == current:
            raise InvalidTopologyError(
                f"cannot adopt namespace {name!r}: {path} is the network namespace that pytest itself is in, which is never configured"
            )
    except BaseException:
        os.close(fd)
        raise
    return fd


def _enter(name: str, fd: int) -> None:
    try:
        syscalls.setns(fd, syscalls.CLONE_NEWNET)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise _refused(name, "it") from error
        raise KernelError("adopt namespace", error.errno or 0, namespace=name) from error


def _refused(name: str, path: str) -> UnavailableError:
    return UnavailableError(
        f"the network namespace to adopt as {name!r}",
        f"this process may not enter {path}: it belongs to another user namespace than the one pytest is in",
        "run pytest as root, or inside the same user namespace, such as by podman unshare",
    )

"""Network namespaces that somebody else has made, such as a container's: used, and left as they were found.

What is added here is recorded where it is asked for, and taken away at the end; what was there and is missing then is put back.
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
from pytest_netns.kernel.spaces.moving import THREAD_NAMESPACE, Stay
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import syscalls

_NS_GET_NSTYPE = 0xB703  # ioctl_ns(2)
_TABLE = re.compile(r"^table (\w+) (\S+)", re.MULTILINE)


class RecordingSocket(NetlinkSocket):
    """A routing netlink socket that remembers what was added through it."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self._added: list[Request] = []

    def request(self, *requests: Request) -> None:
        """See `NetlinkSocket.request`."""
        self._added += [each for each in requests if each.flags & NLM_F_CREATE]
        super().request(*requests)

    def remove_added(self) -> None:
        """Take away what was added, the last first; what is gone already is no error."""
        added, self._added = self._added, []
        for each in reversed(added):
            # For each RTM_NEW message there is an RTM_DEL of the next number, which takes the same body: rtnetlink(7).
            with contextlib.suppress(NetnsError):
                super().request(Request(("remove", *each.description[1:]), each.type + 1, each.body))


class AdoptedNamespace(NetworkNamespace):
    """A network namespace of somebody else's.

    Args:
        name: for errors.
        fd: a descriptor of it, which is closed with this.
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
        """The namespace at a path.

        Args:
            name: for errors.
            path: such as ``"/proc/4711/ns/net"``.
            first: what to do with it while the calling thread is inside.

        Raises:
            InvalidTopologyError: there is no network namespace, or it is the one this process is in.
            UnavailableError: this process may not enter it.
        """
        fd = _open(name, path)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, fd)
            with Stay(lambda: _enter(name, fd), name):
                netlink = RecordingSocket(name)
                undo.callback(netlink.close)
                namespace = cls(name, fd, netlink)
                first(namespace)
            undo.pop_all()
        return namespace

    def write_sysctl(self, key: str, value: str) -> None:
        """See `NetworkNamespace.write_sysctl`; what it was before is remembered."""
        if key not in self._sysctls:
            self._sysctls[key] = sysctls.read(key)
        super().write_sysctl(key, value)

    def close(self) -> None:
        """Leave it as it was found, and let go of it; idempotent."""
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
                self._put_back(info, before)
        here = dict(self.netlink.dump(rtaddresses.dump_addresses(), _address))
        missing = [body for key, body in self._addresses.items() if key not in here]
        again = [rtaddresses.replay(body, rtaddresses.RTM_NEWADDR) for body in missing]
        again += [rtroutes.replay(body) for body in self._routes if _is_static(body)]
        for request in again:
            with contextlib.suppress(NetnsError):  # it is there
                self.netlink.request(request)

    def _put_back(self, now: LinkInfo, before: LinkInfo) -> None:
        changes = []
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
        except NetnsError:  # no nftables here: then there are no tables of ours either
            return set()


def place_of(name: str, pid: int | None, path: str | os.PathLike[str] | None) -> str:
    """The path of a namespace that is named by a process in it, or by its path.

    Raises:
        InvalidTopologyError: by neither or both, or there can be no such process.
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
    """Whether a route does not come back by itself with its interface's addresses."""
    route = rtroutes.parse_looked_up(body)
    return any(rtroutes.is_static_by(route, hop.interface) for hop in route.hops)


def _open(name: str, path: str) -> int:
    import fcntl  # not on Windows, where a suite for several systems may still name what there is

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
            own = os.stat(THREAD_NAMESPACE).st_ino
        if os.fstat(fd).st_ino == own:
            raise InvalidTopologyError(
                f"cannot adopt namespace {name!r}: {path} is the network this process itself is in, which is never configured"
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

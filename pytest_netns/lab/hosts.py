"""Name resolution in a lab: each namespace's own /etc/hosts and /etc/resolv.conf, with the lab's namespaces and host names."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, NetnsError
from pytest_netns.kernel.netlink import rtaddresses
from pytest_netns.kernel.programs import mounts
from pytest_netns.kernel.programs.view import View
from pytest_netns.kernel.spaces.netns import LOOPBACK_INDEX, NetworkNamespace
from pytest_netns.values import IPAddress, IPInterface

_LOCALHOST = ("127.0.0.1", "::1")
_MAX_RESOLVERS = 3  # the C library reads no more, resolv.conf(5)


def hosts_text(lines: Sequence[tuple[str, Sequence[str]]]) -> str:
    """/etc/hosts: one line for each address, with its names."""
    return mounts.NAMES_HEADER + "".join(f"{address} {' '.join(names)}\n" for address, names in lines)


def resolver_text(servers: Sequence[IPAddress]) -> str:
    """/etc/resolv.conf: an unanswered lookup fails after one second for each server, not after 10."""
    if not servers:
        return mounts.NAMES_HEADER
    listing = "".join(f"nameserver {server}\n" for server in servers)
    return f"{mounts.NAMES_HEADER}{listing}options timeout:1 attempts:1\n"


def parse_resolvers(servers: object) -> tuple[IPAddress, ...]:
    """One or several addresses of name servers."""
    several = servers if isinstance(servers, Sequence) and not isinstance(servers, str) else (servers,)
    parsed = tuple(values.parse_address(server, "name server") for server in several)
    if len(parsed) > _MAX_RESOLVERS:
        raise InvalidTopologyError(
            f"cannot use {len(parsed)} name servers: the C library asks at most {_MAX_RESOLVERS}"
        )
    return parsed


def best_addresses(near: Iterable[IPInterface], far: Iterable[IPInterface]) -> list[IPAddress]:
    """The addresses by which to reach another namespace: one of each family, preferably in a shared network."""
    shared = {address.network for address in near}
    chosen: dict[int, IPAddress] = {}
    for address in sorted(far, key=lambda address: address.network not in shared):
        chosen.setdefault(address.version, address.ip)
    return list(chosen.values())


def global_addresses(namespace: NetworkNamespace) -> list[IPInterface]:
    """All addresses of a namespace except link-local ones and those of its loopback interface."""
    listed = namespace.netlink.dump(rtaddresses.dump_addresses(), rtaddresses.parse_address)
    return [address for index, address in listed if index != LOOPBACK_INDEX and not address.ip.is_link_local]


class Member:
    """A namespace of the lab, with its host name and files.

    Attributes:
        kernel: the namespace.
        hostname: the host name its programs see; empty for the namespace's name.
        resolvers: the name servers in its resolv.conf.
    """

    def __init__(self, kernel: NetworkNamespace, hostname: str) -> None:
        self.kernel = kernel
        self.hostname = hostname
        self.resolvers: tuple[IPAddress, ...] = ()
        self.addresses: list[IPInterface] = []
        self.view: View | None = None  # the mount view of its programs, if programs can run
        self.written = -1  # the version of its files; -1: never written
        self.outside: object = None  # the machine's own files when last read


class Hosts:
    """The names that resolve in a lab, kept in the files of every namespace in which something can run.

    Addresses are read again when they have changed: this package knows its own changes, and if something runs in the
    namespace, the kernel notifies it of all changes.
    """

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._descriptors: dict[str, int] | None = None  # created on first use; replaced when the members change
        self._readers: list[Member] = []  # the members in which something can run
        self._hostnames: dict[str, str | IPAddress] = {}
        self._stale: set[Member] = set()
        self._version = 0
        self._texts: dict[
            object, str
        ] = {}  # the /etc/hosts texts of one version, shared by members in the same networks
        self._texts_version = -1
        self._is_delayed = False
        self._lock = threading.RLock()
        self._watchers: list[Callable[[], None]] = []

    def set_hostname(self, name: str, hostname: str) -> None:
        """Set the host name that a namespace's programs see, and that resolves to it."""
        with self._lock:
            member = self._members[name]
            if hostname != member.hostname:
                self.check_hostname(hostname)
                member.hostname = hostname
                self._version += 1
                if member.view is not None:
                    member.view.set_hostname(hostname)
        self._spread()

    def check_hostname(self, hostname: str) -> None:
        """Raise an error if a host name is invalid or resolves to another namespace."""
        values.parse_hostname(hostname)
        if hostname in self._members or any(each.hostname == hostname for each in self._members.values()):
            raise InvalidTopologyError(f"cannot add host name {hostname!r}: a namespace of this lab has that name")

    def add_namespace(self, kernel: NetworkNamespace, hostname: str = "") -> None:
        """Add a namespace's name, and its host name if that differs."""
        with self._lock:
            self._members[kernel.name] = Member(kernel, hostname)
            self._descriptors = None
        self.changed(kernel.name)

    def remove_namespace(self, name: str) -> None:
        """Remove a namespace's name, and the host names that resolve to it."""
        with self._lock:
            member = self._members.pop(name)
            self._descriptors = None
            self._hostnames = {each: target for each, target in self._hostnames.items() if target != name}
            self._readers = [each for each in self._readers if each is not member]
            self._stale.discard(member)
            self._version += 1
        self._spread()

    def add(self, hostname: str, target: str | IPAddress) -> None:
        """Make a host name resolve to a namespace, given by name, or to an address."""
        self.check_hostname(hostname)
        with self._lock:
            self._hostnames[hostname] = target
            self._version += 1
        self._spread()

    def changed(self, *namespaces: str) -> None:
        """Update the files that running programs see, as addresses have changed."""
        with self._lock:
            for name in namespaces:
                self._stale.add(self._members[name])
        self._spread()
        self._tell()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Register a callback for possible changes of addresses."""
        if watcher not in self._watchers:
            self._watchers.append(watcher)

    def best_addresses(self, viewer: str, name: str) -> list[IPAddress]:
        """The addresses by which to reach a namespace from another one: one of each family, read from the kernel."""
        self._check_known(name)
        near, far = (global_addresses(self._members[each].kernel) for each in (viewer, name))
        return best_addresses(near, far)

    def addresses(self, name: str) -> list[IPAddress]:
        """All addresses of a namespace except link-local ones and those of its loopback interface, read from the kernel."""
        self._check_known(name)
        return [address.ip for address in global_addresses(self._members[name].kernel)]

    def knows(self, name: str) -> bool:
        """Whether it is the name of a namespace."""
        return name in self._members

    def _check_known(self, name: str) -> None:
        if name not in self._members:
            listing = values.suggest(name, self._members)
            raise InvalidTopologyError(f"cannot find namespace {name!r} in this lab: {listing}")

    def _tell(self) -> None:
        if not self._is_delayed:
            for watcher in self._watchers:
                watcher()

    @contextlib.contextmanager
    def batch(self) -> Generator[None]:
        """Delay updates of the files until the end of the block, for many changes."""
        self._is_delayed = True
        try:
            yield
        finally:
            self._is_delayed = False
        self._spread()
        self._tell()

    def write(self, name: str, view: View) -> None:
        """Update a namespace's files in this view; costs next to nothing if they are up to date."""
        with self._lock:
            member = self._members[name]
            if member.view is not view:
                if member.view is None:
                    self._readers.append(member)
                member.view, member.written, member.outside = view, -1, mounts.source_state()
                if member.hostname:
                    view.set_hostname(member.hostname)
            elif (outside := mounts.source_state()) != member.outside:
                view.files.refresh()
                member.outside = outside
            self._read_stale()
            self._write(member, view)
            if self._descriptors is None:
                self._descriptors = {each: found.kernel.fd for each, found in self._members.items()}
            view.files.list_namespaces(self._descriptors)

    def resolvers(self, name: str) -> tuple[IPAddress, ...]:
        """The name servers of a namespace."""
        return self._members[name].resolvers

    def set_resolvers(self, name: str, servers: tuple[IPAddress, ...]) -> None:
        """Set the name servers of a namespace."""
        with self._lock:
            member = self._members[name]
            member.resolvers = servers
            if member.view is not None:
                member.written = -1
                self._read_stale()
                self._write(member, member.view)

    def _spread(self) -> None:
        """Update the files of all namespaces, unless updates are delayed."""
        if self._is_delayed or not self._readers:
            return
        with self._lock:
            self._read_stale()
            for member in self._readers:
                if member.view is not None:
                    with contextlib.suppress(NetnsError):  # its init was killed: its next use raises an error
                        self._write(member, member.view)

    def _write(self, member: Member, view: View) -> None:
        if member.written == self._version:
            return
        view.files.write_etc("hosts", self._hosts_text(member))
        done = view.files.write_etc("resolv.conf", resolver_text(member.resolvers))
        # A program such as a DHCP client may replace the file later; its version is then kept.
        if not done and member.resolvers and member.written < 0:
            raise NetnsError(
                f"cannot set the name servers of namespace {member.kernel.name!r}: it has no private /etc/resolv.conf; "
                "a program has replaced it, or this machine has none or refuses the mount"
            )
        member.written = self._version

    def _hosts_text(self, viewer: Member) -> str:
        """The /etc/hosts of a namespace: the same for all namespaces in the same networks."""
        if self._texts_version != self._version:
            self._texts, self._texts_version = {}, self._version
        key = frozenset(address.network for address in viewer.addresses) or viewer
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = hosts_text(list(self._lines(viewer)))
        return text

    def _lines(self, viewer: Member) -> Iterator[tuple[str, Sequence[str]]]:
        """Each further name has its own line, since the first name of a line is the canonical one for all of them."""
        yield from self._localhost()
        for member in self._members.values():
            addresses: list[object] = list(best_addresses(viewer.addresses, member.addresses))
            if not addresses and member is viewer:
                addresses.append("127.0.0.1")
            further = [name for name, target in self._hostnames.items() if target == member.kernel.name]
            names = self._own_names(member, further)
            for address in addresses:
                yield str(address), names
                yield from ((str(address), (name,)) for name in further if name not in names)
        for name, target in self._hostnames.items():
            if isinstance(target, IPAddress):
                yield str(target), (name,)

    def _localhost(self) -> Iterator[tuple[str, Sequence[str]]]:
        """With the machine's own name too: Python code in the test process gets it from `gethostname` and looks it up."""
        machine = os.uname().nodename
        known = {*self._members, *self._hostnames, *(each.hostname for each in self._members.values())}
        own_names = (machine,) if values.HOSTNAME_PATTERN.fullmatch(machine) and machine not in known else ()
        for address in _LOCALHOST:
            yield address, ("localhost", *own_names)

    def _own_names(self, member: Member, further: Sequence[str]) -> tuple[str, ...]:
        """The names of a namespace itself, the full one first, as in hosts(5): ``red.example.com red``."""
        name = member.kernel.name
        full = [each for each in further if each.startswith(f"{name}.")]
        if not member.hostname:
            return (*full, name)
        short = member.hostname.partition(".")[0]
        taken = short in self._members or short in self._hostnames
        return tuple(dict.fromkeys((member.hostname, *full, *(() if taken else (short,)), name)))

    def _read_stale(self) -> None:
        version = self._version
        for member in self._readers:
            if member.view is not None and (member.written < 0 or member.view.addresses_changed()):
                self._stale.add(member)
        while self._stale:
            member = self._stale.pop()
            addresses = global_addresses(member.kernel)
            if member.addresses != addresses:
                member.addresses = addresses
                self._version += 1
        if self._version != version:
            self._tell()

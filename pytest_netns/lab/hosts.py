"""Which name leads where: the lab's namespaces and host names, in each namespace's own /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

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
    """/etc/hosts: an address and its names a line."""
    return mounts.NAMES_HEADER + "".join(f"{address} {' '.join(names)}\n" for address, names in lines)


def resolver_text(servers: Sequence[IPAddress]) -> str:
    """/etc/resolv.conf: a lookup that nobody answers fails after a second for each server, not after 10."""
    if not servers:
        return mounts.NAMES_HEADER
    listing = "".join(f"nameserver {server}\n" for server in servers)
    return f"{mounts.NAMES_HEADER}{listing}options timeout:1 attempts:1\n"


def parse_resolvers(servers: object) -> tuple[IPAddress, ...]:
    """Addresses of name servers, given as one or several."""
    several = servers if isinstance(servers, Sequence) and not isinstance(servers, str) else (servers,)
    parsed = tuple(values.parse_address(server, "name server") for server in several)
    if len(parsed) > _MAX_RESOLVERS:
        raise InvalidTopologyError(
            f"cannot use {len(parsed)} name servers: the C library asks {_MAX_RESOLVERS} at most"
        )
    return parsed


def best_addresses(own: Iterable[IPInterface], other: Iterable[IPInterface]) -> list[IPAddress]:
    """By which of another namespace's addresses to reach it: one of each family, those in a shared network first."""
    shared = {address.network for address in own}
    chosen: dict[int, IPAddress] = {}
    for address in sorted(other, key=lambda address: address.network not in shared):
        chosen.setdefault(address.version, address.ip)
    return list(chosen.values())


def global_addresses(namespace: NetworkNamespace) -> list[IPInterface]:
    """All addresses of a namespace but those of its loopback interface and link-local ones."""
    listed = namespace.netlink.dump(rtaddresses.dump_addresses(), rtaddresses.parse_address)
    return [address for index, address in listed if index != LOOPBACK_INDEX and not address.ip.is_link_local]


class Member:
    """A namespace whose name the lab knows, and which may be told the others' names.

    Attributes:
        kernel: the namespace.
        hostname: the host name its programs see; empty for the namespace's name.
        resolvers: the name servers asked there.
    """

    def __init__(self, kernel: NetworkNamespace, hostname: str) -> None:
        self.kernel = kernel
        self.hostname = hostname
        self.resolvers: tuple[IPAddress, ...] = ()
        self.addresses: list[IPInterface] = []
        self.view: View | None = None  # where programs can run: what they see of files
        self.written = -1  # the version its files have; -1 before they were written for the first time
        self.outside: object = None  # what the machine had when that was looked at last


class Hosts:
    """Which name leads where in a lab, kept in the files of every namespace in which something can run.

    Addresses are read from the kernel when they have changed: this package knows what it changes, and where something
    runs the kernel tells of everybody's changes.
    """

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._descriptors: dict[str, int] | None = None  # once asked for; another one where the members have changed
        self._readers: list[Member] = []  # those in which something can run
        self._hostnames: dict[str, str | IPAddress] = {}
        self._stale: set[Member] = set()
        self._version = 0
        self._texts: dict[object, str] = {}  # of /etc/hosts in one version, shared by all who see the same
        self._texts_version = -1
        self._held = False
        self._lock = threading.RLock()
        self._watchers: list[Callable[[], None]] = []

    def set_hostname(self, name: str, hostname: str) -> None:
        """Have a namespace's programs see this host name, which leads to it."""
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
        """Refuse a host name that is invalid, or leads to another namespace."""
        values.parse_hostname(hostname)
        if hostname in self._members or any(each.hostname == hostname for each in self._members.values()):
            raise InvalidTopologyError(f"cannot add host name {hostname!r}: a namespace of this lab has that name")

    def add_namespace(self, kernel: NetworkNamespace, hostname: str = "") -> None:
        """Have a namespace known by its name, and by its host name if that is another one."""
        with self._lock:
            self._members[kernel.name] = Member(kernel, hostname)
            self._descriptors = None
        self.changed(kernel.name)

    def remove_namespace(self, name: str) -> None:
        """Have a namespace's name, and the host names that lead to it, known no more."""
        with self._lock:
            member = self._members.pop(name)
            self._descriptors = None
            self._hostnames = {each: target for each, target in self._hostnames.items() if target != name}
            self._readers = [each for each in self._readers if each is not member]
            self._stale.discard(member)
            self._version += 1
        self._spread()

    def add(self, hostname: str, target: str | IPAddress) -> None:
        """Have a host name lead to a namespace, given by its name, or to an address."""
        self.check_hostname(hostname)
        with self._lock:
            self._hostnames[hostname] = target
            self._version += 1
        self._spread()

    def changed(self, *namespaces: str) -> None:
        """Addresses have changed, so running programs are to see other names."""
        with self._lock:
            self._stale.update(self._members[name] for name in namespaces)
        self._spread()
        self._tell()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have somebody told when addresses may have changed."""
        if watcher not in self._watchers:
            self._watchers.append(watcher)

    def best_addresses(self, viewer: str, name: str) -> list[IPAddress]:
        """By which addresses to reach a namespace from another one: one of each family, read from the kernel."""
        self._check_known(name)
        own, other = (global_addresses(self._members[each].kernel) for each in (viewer, name))
        return best_addresses(own, other)

    def addresses(self, name: str) -> list[IPAddress]:
        """All addresses of a namespace but link-local ones and those of its loopback interface, read from the kernel."""
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
        if not self._held:
            for watcher in self._watchers:
                watcher()

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Many changes follow: bring the files up to date after them."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self._spread()
        self._tell()

    def write(self, name: str, view: View) -> None:
        """Bring the files of a namespace, as this view shows them, up to date; costs next to nothing where they are."""
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
        """Have other name servers asked in a namespace."""
        with self._lock:
            member = self._members[name]
            member.resolvers = servers
            if member.view is not None:
                member.written = -1
                self._read_stale()
                self._write(member, member.view)

    def _spread(self) -> None:
        """Bring the files of all namespaces up to date, unless they are held."""
        if self._held or not self._readers:
            return
        with self._lock:
            self._read_stale()
            for member in self._readers:
                if member.view is not None:
                    with contextlib.suppress(NetnsError):  # its init was killed: who uses it next is told
                        self._write(member, member.view)

    def _write(self, member: Member, view: View) -> None:
        if member.written == self._version:
            return
        view.files.write_etc("hosts", self._hosts_text(member))
        done = view.files.write_etc("resolv.conf", resolver_text(member.resolvers))
        # Later on, a program that has replaced the file, such as a DHCP client, is right.
        if not done and member.resolvers and member.written < 0:
            raise NetnsError(
                f"cannot set the name servers of namespace {member.kernel.name!r}: it has no /etc/resolv.conf of its "
                "own; a program has replaced it, or this machine has none or refuses the mount"
            )
        member.written = self._version

    def _hosts_text(self, viewer: Member) -> str:
        """/etc/hosts in a namespace: the same in all that are in the same networks."""
        if self._texts_version != self._version:
            self._texts, self._texts_version = {}, self._version
        key = frozenset(address.network for address in viewer.addresses) or viewer
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = hosts_text(list(self._lines(viewer)))
        return text

    def _lines(self, viewer: Member) -> Iterator[tuple[str, Sequence[str]]]:
        """Each further name has a line of its own, since the first name of a line is the canonical one of all of them."""
        yield from self._localhost()
        for member in self._members.values():
            found: list[object] = list(best_addresses(viewer.addresses, member.addresses))
            if not found and member is viewer:
                found.append("127.0.0.1")
            further = [name for name, target in self._hostnames.items() if target == member.kernel.name]
            names = self._own_names(member, further)
            for address in found:
                yield str(address), names
                yield from ((str(address), (name,)) for name in further if name not in names)
        for name, target in self._hostnames.items():
            if isinstance(target, IPv4Address | IPv6Address):
                yield str(target), (name,)

    def _localhost(self) -> Iterator[tuple[str, Sequence[str]]]:
        """The machine's own name too: Python code in the test's own process asks for it, by way of `gethostname`."""
        machine = os.uname().nodename
        known = {*self._members, *self._hostnames, *(each.hostname for each in self._members.values())}
        own = (machine,) if values.HOSTNAME_PATTERN.fullmatch(machine) and machine not in known else ()
        for address in _LOCALHOST:
            yield address, ("localhost", *own)

    def _own_names(self, member: Member, further: Sequence[str]) -> tuple[str, ...]:
        """The names of a namespace itself, the full one first, as hosts(5) has them: ``red.example.com red``."""
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
            found = global_addresses(member.kernel)
            if member.addresses != found:
                member.addresses = found
                self._version += 1
        if self._version != version:
            self._tell()

"""Which name leads where: the lab's namespaces and host names, in each namespace's own /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, NetnsError
from pytest_netns.kernel.programs import supervisor
from pytest_netns.kernel.programs.view import View
from pytest_netns.values import IPAddress, IPInterface

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.namespace import Namespace

_LOCALHOST = (("127.0.0.1", ("localhost",)), ("::1", ("localhost",)))
_MAX_RESOLVERS = 3  # the C library reads no more, resolv.conf(5)


def hosts_text(lines: Sequence[tuple[str, Sequence[str]]]) -> str:
    """/etc/hosts: an address and its names a line."""
    return supervisor.NAMES_HEADER + "".join(f"{address} {' '.join(names)}\n" for address, names in lines)


def resolver_text(servers: Sequence[IPAddress]) -> str:
    """/etc/resolv.conf: a lookup that nobody answers fails after a second for each server, not after 10."""
    if not servers:
        return supervisor.NAMES_HEADER
    listing = "".join(f"nameserver {server}\n" for server in servers)
    return f"{supervisor.NAMES_HEADER}{listing}options timeout:1 attempts:1\n"


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


class Names:
    """The names of a lab, kept in the files of every namespace in which something can run.

    Addresses are read from the kernel when they have changed: this package knows what it changes, and where something
    runs the kernel tells of everybody's changes.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._hostnames: dict[str, Namespace | IPAddress] = {}
        self._addresses: dict[Namespace, list[IPInterface]] = {}
        self._stale: set[Namespace] = set()
        self._readers: set[Namespace] = set()  # those in which something can run
        self._version = 0
        self._written: dict[View, int] = {}
        self._held = False

    def add(self, hostname: str, target: Namespace | IPAddress) -> None:
        """Have a host name lead to a namespace or an address."""
        values.parse_hostname(hostname)
        if hostname in self._lab:
            raise InvalidTopologyError(f"cannot add host name {hostname!r}: a namespace of this lab has that name")
        self._hostnames[hostname] = target
        self._version += 1
        self.spread()

    def changed(self, *namespaces: Namespace) -> None:
        """Addresses have changed, so running programs are to see other names."""
        self._stale.update(namespaces)
        self.spread()

    def spread(self) -> None:
        """Bring the files of all namespaces up to date, unless they are held."""
        if self._held or not self._readers:
            return
        with self._lab._lock:
            for namespace in tuple(self._readers):
                with contextlib.suppress(NetnsError):  # its init was killed: who uses it next is told
                    self.write(namespace)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Many changes follow: bring the files up to date after them."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self.spread()

    def write(self, namespace: Namespace) -> None:
        """Bring the files of one namespace up to date, which costs next to nothing where they are; the lab is locked."""
        view = namespace.programs.view
        if view is None:
            return
        self._readers.add(namespace)
        self._read_stale()
        if self._written.get(view) == self._version:
            return
        view.write_etc("hosts", hosts_text(list(self._lines(namespace))))
        done = view.write_etc("resolv.conf", resolver_text(namespace._resolvers))
        # Later on, a program that has replaced the file, such as a DHCP client, is right.
        if not done and namespace._resolvers and view not in self._written:
            raise NetnsError(
                f"cannot set the name servers of namespace {namespace.name!r}: it has no /etc/resolv.conf of its own; "
                "a program has replaced it, or this machine has none or refuses the mount"
            )
        self._written[view] = self._version

    def renew(self, namespace: Namespace) -> None:
        """Write the files of one namespace anew: its name servers have changed."""
        if namespace.programs.view is not None:
            self._written.pop(namespace.programs.view, None)
            self.write(namespace)

    def _lines(self, viewer: Namespace) -> Iterator[tuple[str, Sequence[str]]]:
        yield from _LOCALHOST
        aliases: dict[Namespace | IPAddress, list[str]] = {}
        for hostname, target in self._hostnames.items():
            aliases.setdefault(target, []).append(hostname)
        for namespace in self._lab:
            found: list[object] = list(
                best_addresses(self._addresses.get(viewer, ()), self._addresses.get(namespace, ()))
            )
            if not found and namespace is viewer:
                found.append("127.0.0.1")
            for address in found:
                yield str(address), (namespace.name, *aliases.get(namespace, ()))
        for target, hostnames in aliases.items():
            if isinstance(target, IPv4Address | IPv6Address):
                yield str(target), hostnames

    def _read_stale(self) -> None:
        for namespace in self._readers:
            view = namespace.programs.view
            if view is not None and (view not in self._written or view.addresses_changed()):
                self._stale.add(namespace)
        while self._stale:
            namespace = self._stale.pop()
            found = namespace._all_addresses()
            if self._addresses.get(namespace) != found:
                self._addresses[namespace] = found
                self._version += 1

"""Namespace: the handle of a network and the programs that run in it."""

from __future__ import annotations

import functools
import os
import socket as sockets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, fails_as
from pytest_netns.kernel.netlink.socket import NetlinkSocket
from pytest_netns.kernel.programs.view import View
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import interrupts, ipv6
from pytest_netns.kernel.system.lazy import created_on_use
from pytest_netns.kernel.system.sockets import Socket
from pytest_netns.lab import hosts
from pytest_netns.lab.gateway_methods import GatewayMethods
from pytest_netns.lab.lab_links import LabLinks
from pytest_netns.lab.program_methods import ProgramMethods
from pytest_netns.lab.settings import Settings
from pytest_netns.running import entering, resolving
from pytest_netns.running.programs import LabPrograms
from pytest_netns.values import IPAddress, IPNetwork

if TYPE_CHECKING:
    from pytest_netns.faults.cuts import Cut
    from pytest_netns.lab.files import Files
    from pytest_netns.lab.lab import Lab
    from pytest_netns.machine.uplink import Uplink
    from pytest_netns.parts.gateway.nftext import Effect
    from pytest_netns.running.halting import Healable
    from pytest_netns.running.ports import Answer


class Namespace(GatewayMethods, ProgramMethods):
    """An isolated network of a lab; returned by `Lab.add_namespace`.

    Attributes:
        name: 1 to 63 characters; also the host name that programs inside see, by default.
        programs: everything that runs in it.
        files: its private directories and files.
        links: its interfaces, for the plugin itself.
        packet_rules: its rules for forwarded packets, as they are in the kernel.
        gateway: creates them.
        settings: its sysctls.
    """

    __slots__ = (
        "__weakref__", "_files", "_is_router", "_lab", "_leads_from_loopback", "_settings", "programs",
    )  # fmt: skip

    def __init__(self, lab: Lab, kernel: NetworkNamespace, programs: LabPrograms, links: LabLinks) -> None:
        self._name = kernel.name
        self._lab = lab
        self.programs = programs.add(kernel, owner=self, write_files=self._write_files)
        self.links = links.add(kernel, owner=self, changed=functools.partial(lab.names.changed, kernel.name))
        self._is_router = self._leads_from_loopback = False

    @created_on_use
    def files(self) -> Files:
        """The directories and files that it has for itself."""
        from pytest_netns.lab.files import Files

        return Files(self.name)

    @created_on_use
    def settings(self) -> Settings:
        """Its sysctls."""
        return Settings(self.name, lambda: self.programs.network)

    @property
    def lab(self) -> Lab:
        """The lab it belongs to."""
        return self._lab

    @staticmethod
    def current() -> Namespace | None:
        """The namespace that the calling thread is in by the innermost ``with``, marker or call; None outside."""
        programs = resolving.current()
        return None if programs is None else programs.owner

    @property
    def path(self) -> str:
        """A path to this network namespace for other programs, valid while the lab is open.

        For example ``nsenter --net=PATH``, ``podman run --network ns:PATH`` and ``ip link set eth0 netns PATH``. It works
        outside, in the programs of every namespace of the lab, and in Python code.
        """
        from pytest_netns.lab import files

        views = [each.view for each in self._lab.programs.members if each.view is not None]
        return files.path_of(self.programs.network.fd, views)

    # -- settings -------------------------------------------------------------------------------------

    def enable_forwarding(self) -> None:
        """Make this namespace a router, for IPv4 and IPv6.

        If /proc/sys is read-only, or the kernel has no IPv6, only IPv4 is forwarded, and the end of the run shows what is
        missing.
        """
        self.settings.enable_forwarding()

    def sysctl(self, name: str, value: str | int | None = None) -> str:
        """Read a kernel setting of this namespace, or write it.

        Args:
            name: a name below ``net``, as in sysctl(8): ``"net.ipv4.ip_forward"``.
            value: the value to write; None to read.

        Returns:
            The setting's value, after the change if any.
        """
        return self.settings.read(name) if value is None else self.settings.set(name, value)

    # -- files -----------------------------------------------------------------------------------------

    def tmpfs(self, path: str | os.PathLike[str]) -> None:
        """Mount an empty private directory for its programs and `call`; it is created if missing.

        It has the owner and mode of the directory it covers. Its contents are deleted with the lab.

        Args:
            path: the directory, such as ``"/run"``.
        """
        self.files.make_private(values.parse_private(path), self.programs.spawner)

    def bind(self, source: str | os.PathLike[str], target: str | os.PathLike[str], read_only: bool = False) -> None:
        """Bind-mount a file or directory of the machine at another path for its programs and `call`, mount(8) ``--bind``.

        Args:
            source: an absolute path.
            target: the path at which it appears; created if missing, for this namespace only.
            read_only: refuse writes at this path.
        """
        paths = values.parse_path(source, "source"), values.parse_path(target, "target")
        self.files.bind(*paths, self.programs.spawner, read_only=read_only)

    def _write_files(self, view: View) -> None:
        self.files.prepare(view)
        self._lab.names.write(self.name, view)

    @property
    def resolver(self) -> list[str]:
        """The name servers for names that the lab does not have; can be set to one to three addresses."""
        return [str(server) for server in self._lab.names.resolvers(self.name)]

    @resolver.setter
    def resolver(self, servers: str | IPAddress | Sequence[str | IPAddress]) -> None:
        parsed = hosts.parse_resolvers(servers)
        self.programs.network  # noqa: B018 - raises if the lab is closed
        self._lab.names.set_resolvers(self.name, parsed)

    def _become_router(self, effects: Sequence[Effect]) -> None:
        """Apply the settings that rules need: forwarding, and routing of packets from 127.0.0.0/8."""
        if not self._is_router:
            self.enable_forwarding()
            self._lab.notes.add(self.packet_rules)
            self._is_router = True
        if not self._leads_from_loopback and any(each.from_loopback for each in effects):
            self.settings.write({"net.ipv4.conf.all.route_localnet": 1})
            self._leads_from_loopback = True

    # -- the real network -----------------------------------------------------------------------------

    @fails_as("add uplink")
    def add_uplink(self, name: str = "uplink0", network: str | IPNetwork = "10.0.2.0/24") -> Uplink:
        """Connect this namespace to the real network: an interface whose gateway is slirp4netns(1), and a default route.

        This is the only way out of a lab. Nothing is configured on the host, and the outside sees no address of the lab.
        In rootless mode it requires ``netns_uplink = slirp4netns``, so that slirp4netns starts before pytest moves.

        Args:
            name: the interface's name.
            network: an IPv4 network, /25 or larger. Its 100th address is the namespace's, the 2nd the gateway's, and the
                3rd that of a name server which forwards to the host's; it is used here unless `resolver` is set.

        Raises:
            UnavailableError: slirp4netns or /dev/net/tun is missing; names the remedy.
        """
        from pytest_netns.machine.uplink import Uplink

        values.parse_interface_name(name)
        if name in self.interfaces:
            raise InvalidTopologyError(
                f"cannot add uplink {name!r}: namespace {self.name!r} has an interface of that name"
            )
        if any(route.is_default and route.destination.version == 4 for route in self.routes()):
            raise InvalidTopologyError(
                f"cannot add uplink to namespace {self.name!r}: it already has an IPv4 default route; remove it first"
            )
        made = Uplink(self._kernel, name, network)
        self._lab.at_end(made.remove)
        self._lab.names.changed(self.name)
        if not self.resolver:
            self.resolver = [made.resolver]
        return made

    # -- faults ---------------------------------------------------------------------------------------

    def isolate(self) -> Cut:
        """Drop all incoming and outgoing packets; interfaces keep their carrier, and the loopback interface works.

        Returns:
            The isolation in force: a context manager that heals it.
        """
        from pytest_netns.faults import cuts

        return cuts.isolate(self._lab.faults, self._lab.links.members, self.name)

    def probe(self, target: str | IPAddress | values.Target, protocol: str = "tcp", timeout: float = 1) -> Answer:
        """Try to reach a port from here, for tests of cuts and firewalls::

            assert red.probe("blue:443") == "open"

        Args:
            target: ``"blue:443"``, ``"192.168.15.2:443"``, ``"[fd00::2]:443"``.
            protocol: ``"tcp"``, or ``"udp"``: a byte is sent; without an answer the result is ``"timeout"``, even if open.
            timeout: seconds to wait for an answer.

        Returns:
            ``"open"``; ``"refused"``: nothing listens, or a firewall rejects with a reset; ``"unreachable"``: no route, or
            ICMP "unreachable"; ``"prohibited"``: ICMP "administratively prohibited"; ``"timeout"``: no answer. With several
            addresses the first open one decides.
        """
        from pytest_netns.lab import routes
        from pytest_netns.running import ports

        values.parse_protocol(protocol)
        place = values.parse_target(target)
        if not isinstance(place.port, int):
            raise InvalidTopologyError(f"cannot probe {str(place)!r}: it needs a port, such as '{place.host}:443'")
        addresses = routes.addresses_of(self.links, place.host) if isinstance(place.host, str) else (place.host,)
        return ports.probe(self._kernel, addresses, place.port, protocol, timeout)

    def freeze(self) -> Healable:
        """Stop all processes here (SIGSTOP): their connections stay, but they do not answer. Later processes run.

        Python code in this namespace keeps running: a thread cannot be stopped.

        Returns:
            A context manager; they continue at the end of its block, by `thaw` or by `Lab.heal`.
        """
        from pytest_netns.running import halting

        return halting.freeze(self.programs)

    def thaw(self) -> None:
        """Continue the processes that `freeze` has stopped; does nothing if there are none."""
        if self.programs.frozen is not None:
            self.programs.frozen.heal()

    def crash(self) -> Healable:
        """Simulate a power loss: kill all processes here at once, send no FIN or RST, and drop all packets.

        Peers only notice that nothing answers. Services that end this way cause no warning.

        Returns:
            A context manager; at the end of its block, by its ``heal()`` or by `Lab.heal`, the machine is up again: with
            its network as before, but without programs; `Service.restart` starts them.
        """
        from pytest_netns.faults import crash

        return crash.crash(self._lab.faults, self._lab.links.members, self.programs)

    # -- sockets and Python code -----------------------------------------------------------------------

    @fails_as("make socket")
    def socket(self, family: int = sockets.AF_INET, type: int = sockets.SOCK_STREAM, proto: int = 0) -> sockets.socket:
        """A new socket that belongs to this namespace, whichever thread uses it."""
        with self._kernel.entered():
            try:
                return Socket(family, type, proto)
            except OSError:
                if family == sockets.AF_INET6 and (lack := ipv6.missing()) is not None:
                    raise lack from None
                raise

    def create_server(self, address: tuple[str, int], **options: Any) -> sockets.socket:
        """A listening TCP socket here, like `socket.create_server`; for ``asyncio.start_server(handler, sock=...)``."""
        with self:
            return sockets.create_server(address, **options)

    def create_connection(
        self, address: tuple[str, int], timeout: float | None = None, **options: Any
    ) -> sockets.socket:
        """A TCP connection from here, like `socket.create_connection`; names resolve as in the namespace."""
        with self:
            return sockets.create_connection(address, timeout, **options)

    @interrupts.uninterrupted
    def __enter__(self) -> Namespace:
        entering.enter(self.programs)
        return self

    @interrupts.uninterrupted
    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        entering.leave(self.programs, error)

    # -- for the other modules ------------------------------------------------------------------------

    @property
    def _kernel(self) -> NetworkNamespace:
        return self.programs.network

    @property
    def _netlink(self) -> NetlinkSocket:
        return self._kernel.netlink

    def __repr__(self) -> str:
        return f"<Namespace {self.name}>"

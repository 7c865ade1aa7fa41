"""Uplinks: access from a namespace to the real network, through slirp4netns(1), an unprivileged program.

Nothing is configured on the host: slirp4netns opens ordinary sockets there, so no address of the lab is visible outside.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile

from pytest_netns.errors import InvalidTopologyError, NetnsError, UnavailableError
from pytest_netns.kernel.spaces import netns
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import forking, once, own_programs, privileges
from pytest_netns.machine import uplink_agent as program
from pytest_netns.values import IPAddress, IPNetwork, parse_network

FEATURE = "uplinks"
_MTU = 65520  # the maximum of slirp4netns; fewer packets are faster
_TIMEOUT = 20.0  # seconds
_LEAST_ADDRESSES = 2**7  # slirp4netns gives the namespace the 100th address of the network

_path = ""


class Uplink:
    """A connection from a namespace to the real network; it ends with the lab, or by `remove`."""

    __slots__ = ("_interface", "_network", "_number")

    def __init__(self, network: NetworkNamespace, interface: str, subnet: str | IPNetwork) -> None:
        chosen = parse_network(subnet, "network of an uplink")
        if chosen.version != 4 or chosen.num_addresses < _LEAST_ADDRESSES:
            raise InvalidTopologyError(
                f"cannot use '{chosen}' as network of an uplink: it must be IPv4, /25 or larger, such as '10.0.2.0/24'"
            )
        self._interface = interface
        self._network = chosen
        options = ["--configure", f"--mtu={_MTU}", "--disable-host-loopback", f"--cidr={chosen}"]
        self._number: int | None = _add(network, [*options, interface])

    @property
    def interface(self) -> str:
        """The name of the interface in the namespace."""
        return self._interface

    @property
    def address(self) -> IPAddress:
        """The namespace's address on that interface."""
        return self._network[100]

    @property
    def gateway(self) -> IPAddress:
        """The address of its default gateway."""
        return self._network[2]

    @property
    def resolver(self) -> IPAddress:
        """The address of a name server that forwards to the host's."""
        return self._network[3]

    def remove(self) -> None:
        """Remove the uplink; idempotent."""
        number, self._number = self._number, None
        if number is not None:
            _ask({"end": number})

    def __repr__(self) -> str:
        return f"<Uplink {self.interface}, {self.address}{'' if self._number else ' (removed)'}>"


def find_program() -> str | None:
    """The path of slirp4netns, if installed."""
    return shutil.which("slirp4netns", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin")


def start_agent() -> str:
    """Start the program that stays in the real network; returns the path of its socket. In rootless mode, call it before the move.

    Raises:
        UnavailableError: slirp4netns is not installed.
    """
    global _path
    if find_program() is None:
        raise UnavailableError(FEATURE, "slirp4netns is not installed", "sudo apt-get install slirp4netns")
    directory = tempfile.mkdtemp(prefix="pytest-netns-uplink-")
    path = os.path.join(directory, "socket")
    owner = os.pidfd_open(os.getpid())
    try:
        starter = own_programs.start(
            program.__file__, path, owner, descriptors=[owner], stdout=subprocess.PIPE, environment=["PATH"]
        )
    finally:
        os.close(owner)
    with starter:
        assert starter.stdout is not None
        answer = starter.stdout.readline()
    if answer != b"ready\n":
        raise NetnsError("cannot add uplink: its agent has not started")
    _path = path
    return path


def use_agent(path: str) -> None:
    """In an xdist worker: use the agent of the controller."""
    global _path
    _path = path


def agent_path() -> str:
    """The path of the agent's socket; empty if none was started."""
    return _path


def _add(network: NetworkNamespace, arguments: list[str]) -> int:
    user = os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        answer = _ask({"arguments": arguments}, [network.fd, user])
    finally:
        os.close(user)
    number = answer["number"]
    assert isinstance(number, int)
    return number


def _ask(request: dict[str, object], descriptors: list[int] | None = None) -> dict[str, object]:
    with _connection.lock:  # one request at a time
        try:
            connection = _connection.get()
            socket.send_fds(connection, [json.dumps(request).encode()], descriptors or [])
            answer: dict[str, object] = json.loads(
                connection.recv(program.MAX_MESSAGE) or b'{"error": "its agent has died"}'
            )
        except BaseException as error:  # a later request must not get this one's answer
            _connection.close()
            if isinstance(error, OSError):
                raise NetnsError(f"cannot add uplink: its agent does not answer: {error}") from error
            raise
    if "error" in answer:
        raise _explained(str(answer["error"]))
    return answer


def _connect() -> socket.socket:
    if not _path:
        if privileges.in_own_user_namespace():
            raise UnavailableError(
                FEATURE,
                "pytest has moved into a user namespace, from which nothing reaches the real network",
                "set netns_uplink = slirp4netns in the ini file, or --netns-uplink=slirp4netns, so that a helper stays outside",
            )
        with netns.home():
            start_agent()
    with netns.home():  # unix sockets belong to a namespace too, and would keep a lab's alive
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(_TIMEOUT)
        connection.connect(_path)
    except BaseException:
        connection.close()
        raise
    return connection


_connection = once.PerProcess(_connect, close=socket.socket.close)
forking.in_child(lambda: use_agent(""))


def _explained(message: str) -> NetnsError:
    if "/dev/net/tun" in message:
        return UnavailableError(
            FEATURE,
            f"slirp4netns cannot open /dev/net/tun: {message.splitlines()[0]}",
            "sudo modprobe tun; for an ordinary user also: sudo chmod 666 /dev/net/tun",
        )
    return NetnsError(f"cannot add uplink: slirp4netns reports: {message}")

"""Uplinks: the only way from a namespace to the real network, through slirp4netns(1), which is a program like any other.

Nothing is configured on the host: slirp4netns opens ordinary sockets there, so nobody outside sees an address of the lab.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

from pytest_netns.errors import InvalidTopologyError, NetnsError, UnavailableError
from pytest_netns.kernel.spaces import netns
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import privileges
from pytest_netns.machine import uplink_agent as program
from pytest_netns.values import IPAddress, IPNetwork, parse_network

FEATURE = "uplinks"
_MTU = 65520  # the most slirp4netns takes; fewer packets are faster
_TIMEOUT = 20.0  # seconds
_LEAST_ADDRESSES = 2**7  # slirp4netns gives the namespace the 100th address of the network

_lock = threading.RLock()
_path = ""
_connection: socket.socket | None = None


class Uplink:
    """A way from a namespace to the real network; it ends with the lab, or by `remove`.

    Attributes:
        interface: the name of the interface in the namespace.
        address: the namespace's address there.
        gateway: the address of its default gateway.
        resolver: the address of a name server that asks the host's.
    """

    __slots__ = ("_number", "address", "gateway", "interface", "resolver")

    def __init__(self, network: NetworkNamespace, interface: str, subnet: str | IPNetwork) -> None:
        chosen = parse_network(subnet, "network of an uplink")
        if chosen.version != 4 or chosen.num_addresses < _LEAST_ADDRESSES:
            raise InvalidTopologyError(
                f"cannot use '{chosen}' as network of an uplink: it takes IPv4, /25 or larger, such as '10.0.2.0/24'"
            )
        self.interface = interface
        self.gateway: IPAddress = chosen[2]
        self.resolver: IPAddress = chosen[3]
        self.address: IPAddress = chosen[100]
        options = ["--configure", f"--mtu={_MTU}", "--disable-host-loopback", f"--cidr={chosen}"]
        self._number: int | None = _add(network, [*options, interface])

    def remove(self) -> None:
        """Take the way out away again; idempotent."""
        number, self._number = self._number, None
        if number is not None:
            _ask({"end": number})

    def __repr__(self) -> str:
        return f"<Uplink {self.interface}, {self.address}{'' if self._number else ' (removed)'}>"


def find_program() -> str | None:
    """Where slirp4netns is."""
    return shutil.which("slirp4netns", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin")


def start_agent() -> str:
    """Start the program that stays in the real network; returns the path of its socket. Before the move in rootless mode.

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
        starter = subprocess.Popen(
            ["/proc/self/exe", "-I", "-S", program.__file__, path, str(owner)],
            executable=sys.executable,
            pass_fds=[owner],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={name: value for name, value in os.environ.items() if name in ("LD_LIBRARY_PATH", "PATH")},
        )
    finally:
        os.close(owner)
    with starter:
        assert starter.stdout is not None
        said = starter.stdout.readline()
    if said != b"ready\n":
        raise NetnsError("cannot add uplink: its agent has not started")
    _path = path
    return path


def use_agent(path: str) -> None:
    """In a worker of xdist: use the agent that the controller has started."""
    global _path
    _path = path


def agent_path() -> str:
    """Where the agent listens; empty where none was started."""
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
    global _connection
    with _lock:
        try:
            if _connection is None:
                _connection = _connect()
            socket.send_fds(_connection, [json.dumps(request).encode()], descriptors or [])
            answer: dict[str, object] = json.loads(
                _connection.recv(program.MAX_MESSAGE) or b'{"error": "its agent has died"}'
            )
        except BaseException as error:  # the next question must not get this one's answer
            if _connection is not None:
                _connection.close()
            _connection = None
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


def _explained(words: str) -> NetnsError:
    if "/dev/net/tun" in words:
        return UnavailableError(
            FEATURE,
            f"slirp4netns cannot open /dev/net/tun: {words.splitlines()[0]}",
            "sudo modprobe tun; for an ordinary user also: sudo chmod 666 /dev/net/tun",
        )
    return NetnsError(f"cannot add uplink: slirp4netns says: {words}")


def _after_fork_in_child() -> None:
    global _connection, _lock, _path
    _lock = threading.RLock()
    if _connection is not None:
        _connection.close()
    _connection, _path = None, ""


os.register_at_fork(after_in_child=_after_fork_in_child)

"""Open vSwitch: a bridge with VLANs and OpenFlow, whose daemons belong to the lab.

Each namespace with such a bridge runs its own ovsdb-server(1) and ovs-vswitchd(8), with a private database and sockets,
so several labs can use Open vSwitch at once. They end with the lab.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_netns.errors import InvalidTopologyError, UnavailableError
from pytest_netns.lab import ports
from pytest_netns.lab.bridge import Bridge, refuse_interface
from pytest_netns.lab.connecting import End
from pytest_netns.lab.interface import AddressArgument, Interface, parse_addresses
from pytest_netns.lab.veth_pair import join
from pytest_netns.running import process, service
from pytest_netns.values import naming
from pytest_netns.values.notes import Note

if TYPE_CHECKING:
    from pytest_netns.lab.link import Link
    from pytest_netns.lab.namespace import Namespace
    from pytest_netns.parts.impairment import Impairment
    from pytest_netns.running.programs import Programs

FEATURE = "Open vSwitch"
PACKAGE_REMEDY = "sudo apt-get install openvswitch-switch"
_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_KERNEL_MODULE = "/sys/module/openvswitch"
_TUN = "/dev/net/tun"
_TIMEOUT = 10  # seconds


class SwitchDaemons:
    """The daemons of the Open vSwitch bridges in one namespace.

    Args:
        programs: everything that runs in the namespace.

    Attributes:
        datapath: ``"system"`` if the kernel has the module, else ``"netdev"``: ovs-vswitchd itself forwards the packets.

    Raises:
        UnavailableError: Open vSwitch is not installed, or this user may not open /dev/net/tun.
    """

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self.datapath = check_available()
        self._directory = tempfile.mkdtemp(prefix="pytest-netns-ovs-")
        places = dict.fromkeys(("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"), self._directory)
        self._environment = {**os.environ, **places, "PATH": f"{os.environ.get('PATH', '')}:{_PATH}"}
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def vsctl(self, *arguments: str) -> str:
        """Run ovs-vsctl(8), which returns once the switch has applied the change."""
        return self._run("ovs-vsctl", f"--db=unix:{self._directory}/db.sock", f"--timeout={_TIMEOUT}", *arguments)

    def ofctl(self, command: str, bridge: str, *arguments: str) -> str:
        """Run a command of ovs-ofctl(8) on a bridge."""
        return self._run(
            "ovs-ofctl", f"--timeout={_TIMEOUT}", command, f"unix:{self._directory}/{bridge}.mgmt", *arguments
        )

    def flush_cache(self) -> None:
        """Flush the datapath's cached flows, so that changed rules apply at once, and counters are up to date.

        Open vSwitch itself looks for changes and reads the counters about every half second.
        """
        control = f"--target={self._directory}/vswitchd.ctl"
        self._run("ovs-appctl", control, f"--timeout={_TIMEOUT}", "revalidator/purge")

    def close(self) -> None:
        """Remove the database; the daemons end with the lab's other programs."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self) -> None:
        database, socket = f"{self._directory}/conf.db", f"{self._directory}/db.sock"
        quiet = ("-vconsole:warn", "-vfile:off", "-vsyslog:off")
        self._run("ovsdb-tool", "create", database, _SCHEMA)
        for command, ready in (
            (["ovsdb-server", database, f"--remote=punix:{socket}", f"--unixctl={self._directory}/db.ctl"], socket),
            (
                ["ovs-vswitchd", f"unix:{socket}", f"--unixctl={self._directory}/vswitchd.ctl"],
                f"{self._directory}/vswitchd.ctl",
            ),
        ):
            options = {"env": self._environment}
            service.start(self._programs, [*command, *quiet], ready=Path(ready), timeout=_TIMEOUT, options=options)
        self.vsctl("--no-wait", "init")

    def _run(self, *command: str) -> str:
        done = process.run(
            self._programs,
            command,
            input=None,
            timeout=2 * _TIMEOUT,
            check=True,
            capture_output=True,
            report=False,
            options={"env": self._environment},
        )
        return str(done.stdout)


def check_available() -> str:
    """The datapath that Open vSwitch can use here, see `SwitchDaemons`.

    Raises:
        UnavailableError: it cannot run; names the cause and the remedy.
    """
    datapath = "system" if os.path.isdir(_KERNEL_MODULE) else "netdev"
    if shutil.which("ovs-vswitchd", path=_PATH) is None or not os.path.exists(_SCHEMA):
        raise UnavailableError(FEATURE, "it is not installed", PACKAGE_REMEDY)
    if datapath == "netdev" and not os.access(_TUN, os.R_OK | os.W_OK):
        raise UnavailableError(
            FEATURE,
            f"this kernel has no openvswitch module, and in user space it needs {_TUN}, which this user may not open",
            f"sudo modprobe openvswitch, or sudo chmod 666 {_TUN}, or run as root",
        )
    return datapath


class OpenVSwitch(Bridge):
    """An Open vSwitch bridge: like `Bridge`, with VLANs by ``tag`` and ``trunks``, and OpenFlow."""

    __slots__ = ("_daemons", "_ports")

    def __init__(self, link: Link, daemons: SwitchDaemons) -> None:
        super().__init__(link)
        self._daemons = daemons
        self._ports: dict[str, str] = {}

    def attach(
        self,
        namespace: Namespace,
        address: AddressArgument = None,
        name: str | None = None,
        *,
        mtu: int | None = None,
        mac: str | None = None,
        impairment: Impairment | str | None = None,
        tag: int | None = None,
        trunks: Sequence[int] = (),
        isolated: bool = False,
        up: bool = True,
        offload: bool = True,
    ) -> Interface:
        """Join a namespace to the bridge by a veth pair; the arguments are those of `Bridge.attach`.

        With the user-space datapath, checksum offload is off: it does not forward packets without a checksum.
        """
        refuse_interface(namespace)
        self.namespace.lab.check_member(namespace)
        vlans = ports.parse_vlans(tag, trunks)
        side = naming.bridge_side_name(namespace.name, self.link.home.names)
        port, inside = join(
            End(self.link.home, side, mtu=mtu),
            End(namespace.links, name, parse_addresses(address), mtu, mac, up=up),
            (impairment, impairment),
            offload=offload and self._daemons.datapath == "system",
        )
        try:
            self._add_port(port.name, *vlans, isolated=isolated)
        except BaseException:
            port.delete()
            raise
        return inside

    def add_port(
        self, interface: Interface | str, *, tag: int | None = None, trunks: Sequence[int] = (), isolated: bool = False
    ) -> None:
        """Plug an interface of the same namespace into the bridge; the other arguments are those of `attach`."""
        vlans = ports.parse_vlans(tag, trunks)
        self._add_port(self.namespace.link_of(interface).name, *vlans, isolated=isolated)

    def set_vlans(self, *, tag: int | None = None, trunks: Sequence[int] = ()) -> None:
        """Set the VLANs that the bridge's own namespace is in."""
        settings = _vlan_settings(*ports.parse_vlans(tag, trunks))
        self._daemons.vsctl("clear", "port", self.name, "tag", "trunks", "--", "set", "port", self.name, *settings)

    def add_flow(self, flow: str) -> None:
        """Add an OpenFlow rule, such as ``"priority=10,icmp,actions=drop"``, ovs-ofctl(8); it applies at once.

        Raises:
            CommandError: ovs-ofctl refused it; shows its output.
        """
        if not isinstance(flow, str) or not flow.strip():
            raise InvalidTopologyError(f"cannot add flow {flow!r}: write text, such as 'priority=10,icmp,actions=drop'")
        self._daemons.ofctl("add-flow", self.name, flow)
        self._daemons.flush_cache()

    def remove_flows(self, match: str = "") -> None:
        """Remove the OpenFlow rules that match, such as ``"icmp"``; default: all, including the one for normal switching."""
        self._daemons.ofctl("del-flows", self.name, *([match] if match else []))
        self._daemons.flush_cache()

    def flows(self) -> list[str]:
        """The OpenFlow rules with their counters, one line each, as shown by ovs-ofctl(8) dump-flows."""
        self._daemons.flush_cache()
        lines = self._daemons.ofctl("dump-flows", self.name).splitlines()
        return [line.strip() for line in lines if "actions=" in line]

    def notes(self) -> Sequence[Note]:
        """Its notes for drawings and reports."""
        here = self.namespace.name
        datapath = "in user space" if self._daemons.datapath == "netdev" else "in the kernel"
        of_ports = [Note(here, f"port of {self.name}{words}", name) for name, words in self._ports.items()]
        return [Note(here, f"Open vSwitch {datapath}", self.name), *of_ports]

    def _add_port(self, name: str, tag: int | None, trunks: tuple[int, ...], *, isolated: bool) -> None:
        settings = [*_vlan_settings(tag, trunks), *(["protected=true"] if isolated else [])]
        extra = ("--", "set", "port", name, *settings) if settings else ()
        self._daemons.vsctl("add-port", self.name, name, *extra)
        vlans = [str(vlan) for vlan in ([] if tag is None else [tag])] + [f"{vlan} (tagged)" for vlan in trunks]
        self._ports[name] = f", VLAN {', '.join(vlans)}" if vlans else ""


def _vlan_settings(tag: int | None, trunks: tuple[int, ...]) -> list[str]:
    """The database columns of a port, ovs-vswitchd.conf.db(5)."""
    columns = [] if tag is None else [f"tag={tag}"]
    if trunks:
        columns.append(f"trunks={','.join(map(str, trunks))}")
        columns.append(f"vlan_mode={'trunk' if tag is None else 'native-untagged'}")
    return columns


def add(
    namespace: Namespace, daemons: SwitchDaemons, name: str, addresses: AddressArgument, mtu: int | None
) -> OpenVSwitch:
    """Create an Open vSwitch bridge in a namespace."""
    parsed = parse_addresses(addresses)
    mac = naming.derived_mac(namespace.name, name)
    settings = ("--", "set", "bridge", name, f"datapath_type={daemons.datapath}", f"other-config:hwaddr={mac}")
    size = ("--", "set", "interface", name, f"mtu_request={mtu}") if mtu is not None else ()
    daemons.vsctl("add-br", name, *settings, *size)
    try:
        namespace.links.infos()
        link = namespace.links.find(name)
        made = OpenVSwitch(link, daemons)
        link.handle = made
        made.up()
        for address in parsed:
            made.add_address(address)
    except BaseException:
        daemons.vsctl("--if-exists", "del-br", name)
        raise
    return made

"""Network: the part of a namespace's handle for its interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.lab import hosts
from pytest_netns.lab.bridge import CLASSES
from pytest_netns.lab.interface import AddressArgument, Interface, handle, parse_addresses
from pytest_netns.lab.link import Link
from pytest_netns.lab.links import Links
from pytest_netns.values import IPInterface

if TYPE_CHECKING:
    from pyroute2 import NDB, AsyncIPRoute, Conntrack, IPRoute

    from pytest_netns.lab.lab import Lab
    from pytest_netns.running.halting import Healable

T = TypeVar("T")


class Network:
    """The interfaces of a namespace, and pyroute2's objects for it."""

    __slots__ = ("_name", "links")

    _name: str
    links: Links

    @property
    def name(self) -> str:
        """The namespace's name."""
        return self._name

    @property
    def lab(self) -> Lab:
        """The lab it belongs to."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        """Its first IPv4 address except the loopback one, without prefix length: ``f"http://{blue.address}/"``.

        Raises:
            InvalidTopologyError: it has none.
        """
        first = next((each for each in self.addresses if each.version == 4), None)
        if first is None:
            raise InvalidTopologyError(f"cannot read the address of namespace {self.name!r}: it has no IPv4 address")
        return str(first.ip)

    @property
    def addresses(self) -> list[IPInterface]:
        """All addresses with prefix length, read now, except link-local ones and those of the loopback interface."""
        return hosts.global_addresses(self.links.network)

    @property
    def interfaces(self) -> Mapping[str, Interface]:
        """All interfaces by name, read now."""
        return {
            info.name: handle(self.links.link(info.index), CLASSES.get(info.kind, Interface))
            for info in self.links.infos()
        }

    def add_interface(
        self,
        name: str,
        *,
        kind: str,
        link: Interface | str | None = None,
        addresses: AddressArgument = None,
        master: Interface | str | None = None,
        mtu: int | None = None,
        mac: str | None = None,
        up: bool = True,
        **options: Any,
    ) -> Interface:
        """Add an interface of any kind; for veth pairs use ``lab.add_veth`` and ``bridge.attach``::

            ns.add_interface("eth0.10", kind="vlan", link="eth0", vlan_id=10, addresses="10.0.10.1/24")

        Args:
            name: its name.
            kind: ``"vlan"``, ``"vxlan"``, ``"dummy"``, ``"gre"``, ``"bond"``, ``"wireguard"`` ...; docs/interfaces.md has all.
            link: its lower interface: of this namespace or, given as an Interface, of another one.
            addresses: one or several addresses with prefix length.
            master: the bridge, bond or VRF it becomes a member of.
            mtu: in bytes.
            mac: MAC address; default: derived from the names of namespace and interface.
            up: whether to bring it up.
            options: the kind's options, by iproute2's names (``id=10``) or the kernel's (``vlan_id=10``).

        Raises:
            InvalidTopologyError: an unknown kind or option, or an invalid value; lists the valid ones.
            UnavailableError: this kernel does not have the kind; names the remedy.
            KernelError: the kernel refused.
        """
        from pytest_netns.lab import making

        on = link.link if isinstance(link, Interface) else None if link is None else self.links.find(link)
        if on is not None:
            self.links.check_same_lab(on.home)
        new = making.check_new(
            kind,
            name,
            options,
            on=on,
            mtu=mtu,
            mac=mac,
            master=None if master is None else self.link_of(master),
            addresses=parse_addresses(addresses),
            up=up,
        )
        return handle(making.add_link(self.links, new), CLASSES.get(kind, Interface))

    def unplug(self) -> Healable:
        """Unplug all links: they lose their carrier, until `plug`, the end of a ``with`` block, or ``lab.heal()``.

        The far ends are set down, so that the interfaces here stay as they are, as on a machine whose cable is pulled.
        """
        from pytest_netns.lab import switching

        return switching.unplug(self.lab.faults, self._veths())

    def plug(self) -> None:
        """Plug all unplugged links in again."""
        from pytest_netns.lab import switching

        switching.plug(self._veths())

    def _veths(self) -> list[Link]:
        return [self.links.link(info.index) for info in self.links.infos() if info.kind == "veth"]

    # -- pyroute2 -------------------------------------------------------------------------------------

    @overload
    def iproute(self, *, asynchronous: Literal[False] = False) -> IPRoute: ...

    @overload
    def iproute(self, *, asynchronous: Literal[True]) -> AsyncIPRoute: ...

    def iproute(self, *, asynchronous: bool = False) -> IPRoute | AsyncIPRoute:
        """A pyroute2 `IPRoute` bound to this namespace, whichever thread uses it::

            with ns.iproute() as ipr:
                ipr.link("add", ifname="dummy0", kind="dummy")

        In contrast, one created in ``with ns:`` and used by another thread would act on the real host. Closed with the lab.

        Args:
            asynchronous: an `AsyncIPRoute` instead, for a running event loop: ``async with ns.iproute(asynchronous=True)``.
        """
        from pytest_netns.lab import iproute

        network = self.links.network
        return self._closed_at_end(
            iproute.open_async_iproute(network) if asynchronous else iproute.open_iproute(network)
        )

    def ndb(self) -> NDB:
        """A pyroute2 `NDB` of this namespace; closed with the lab.

        pyroute2 0.9.7 leaves some sockets for Python's garbage collector, which shows a `ResourceWarning` if enabled.
        """
        from pytest_netns.lab import iproute

        return self._closed_at_end(iproute.open_ndb(self.links.network))

    def conntrack(self) -> Conntrack:
        """A pyroute2 `Conntrack` of this namespace; closed with the lab."""
        from pytest_netns.lab import iproute

        return self._closed_at_end(iproute.open_conntrack(self.links.network))

    def _closed_at_end(self, opened: T) -> T:
        from pytest_netns.lab import iproute

        if not self.links.leaving:
            self.lab.at_end(self.links.leave)
        self.links.leaving.append(partial(iproute.close, opened))
        return opened

    # -- for the other modules ------------------------------------------------------------------------

    def link_of(self, interface: Interface | str) -> Link:
        """The plugin's own record of an interface of this namespace, given as an Interface or by name."""
        if isinstance(interface, str):
            return self.links.find(interface)
        if not isinstance(interface, Interface):
            raise InvalidTopologyError(
                f"cannot use {interface!r} as interface: pass its name, or the Interface that add_veth, attach or "
                "add_interface returned"
            )
        if interface.link.home is not self.links:
            raise InvalidTopologyError(f"cannot use {interface!r} in namespace {self.name!r}: it is in another one")
        return interface.link

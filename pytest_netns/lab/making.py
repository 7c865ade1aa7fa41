"""Create interfaces of any kind: by netlink, and with the additional steps that a few kinds need."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pytest_netns.errors import InvalidTopologyError, KernelError, NetnsError, UnavailableError
from pytest_netns.kernel.netlink import messages, rtaddresses, rtlinks
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.wire import NLM_F_CREATE, NLM_F_EXCL
from pytest_netns.kernel.spaces import wireguard
from pytest_netns.kernel.system import diagnosis
from pytest_netns.lab import connecting
from pytest_netns.lab.link import Link
from pytest_netns.lab.links import Links
from pytest_netns.parts.links.kinds import kind_named, parse_kind
from pytest_netns.parts.links.kinds.kind import LinkKind
from pytest_netns.values import IPInterface, naming, parse_mac, parse_mtu

_UNKNOWN_KIND = (errno.EOPNOTSUPP, errno.ENOENT, errno.ENODEV, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
_TUNSETIFF, _TUNSETPERSIST, _TUNSETOWNER, _TUNSETGROUP = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE
_IFF_TUN, _IFF_TAP, _IFF_NO_PI, _IFF_MULTI_QUEUE, _IFF_VNET_HDR = 0x0001, 0x0002, 0x1000, 0x0100, 0x4000


class NewInterface(NamedTuple):
    """An interface to create.

    Attributes:
        kind: its kind.
        name: its name.
        attributes: the kernel's attributes of its kind.
        on: its lower interface, in this namespace or another one; None for none.
        master: the bridge, bond or VRF it becomes a member of; None for none.
        addresses: addresses with prefix length.
        mtu, mac: None for the kernel's default.
        up: whether to bring it up.
    """

    kind: LinkKind
    name: str
    attributes: Mapping[str, Any]
    on: Link | None = None
    master: Link | None = None
    addresses: Sequence[IPInterface] = ()
    mtu: int | None = None
    mac: str | None = None
    up: bool = True


def check_new(
    kind: str, name: str, options: Mapping[str, Any], *, on: Link | None, mtu: int | None = None, mac: str | None = None,
    **rest: Any,
) -> NewInterface:  # fmt: skip
    """Check the arguments, as far as that is possible without the kernel.

    Raises:
        InvalidTopologyError: an unknown kind or option, an invalid value, or a missing argument.
    """
    if parse_kind_of(kind) == "veth":
        raise InvalidTopologyError(
            "cannot add a single veth interface: a veth pair has two ends; use lab.add_veth or bridge.attach"
        )
    link_kind = kind_named(kind)
    attributes = check_options(kind, options)
    if "link" in link_kind.needs and on is None:
        raise InvalidTopologyError(f"cannot add {kind} interface {name!r}: it needs link, its lower interface")
    mtu, mac = None if mtu is None else parse_mtu(mtu), None if mac is None else parse_mac(mac)
    return NewInterface(link_kind, name, attributes, on, mtu=mtu, mac=mac, **rest)


def check_options(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The kernel's attributes for the options of a kind.

    Raises:
        InvalidTopologyError: an unknown option or an invalid value.
    """
    link_kind = kind_named(kind)
    attributes = link_kind.attributes(options)
    for each in attributes:
        if not link_kind.knows(each) and not messages.has_link_option(kind, each):
            raise link_kind.unknown(each, messages.link_options(kind) if link_kind.maker == "netlink" else ())
    return attributes


def parse_kind_of(kind: object) -> str:
    """The name of a known kind."""
    return "veth" if kind == "veth" else parse_kind(kind)


def add_link(links: Links, new: NewInterface) -> Link:
    """Create an interface.

    Raises:
        UnavailableError: this kernel does not have the kind.
    """
    with links.lab.lock:
        link = connecting.again_if_taken((links,), lambda: _make(links, new))
        links.register(link)
    links.settle(link)
    if links.read(link).flags & rtlinks.IFF_RUNNING:
        links.wait_link_local(link)
        links.wait_usable(link, new.addresses)
    return link


def _make(links: Links, new: NewInterface) -> Link:
    kind, name = new.kind, connecting.check_name(links, new.name)
    mac = new.mac or (naming.derived_mac(links.name, name) if kind.has_own_mac else "")
    link = Link(links, _free_index(links, new), name, mac)
    link.port_mtu = new.mtu
    try:
        _MAKERS[kind.maker](link, new)
        links.change(*_settings(link, new))
    except BaseException as failure:
        if not (isinstance(failure, KernelError) and failure.creates_interface):
            with contextlib.suppress(KernelError):  # interrupted before the interface existed
                links.change(rtlinks.delete_link(link.index, name))
        raise
    return link


def _free_index(links: Links, new: NewInterface) -> int:
    """An index that is free in its namespace and, for kernels before 6.13, in that of its lower interface."""
    index = links.next_index()
    if new.on is not None and new.on.home is not links:
        new.on.home.infos()
        while new.on.home.uses(index):
            index = links.next_index()
    return index


def _settings(link: Link, new: NewInterface) -> list[Request]:
    """The requests that configure a new interface."""
    requests = link.home.settings_of(link.index, link.name)
    if new.mtu is not None:
        requests.append(rtlinks.set_link(link.index, link.name, mtu=new.mtu))
    if new.mac is not None:
        requests.append(rtlinks.set_link(link.index, link.name, mac=new.mac))
    if new.master is not None:
        requests.append(rtlinks.set_master(link.index, link.name, new.master.index))
    requests += [rtaddresses.add_address(link.index, link.name, address) for address in new.addresses]
    if new.up:
        requests.append(rtlinks.set_link(link.index, link.name, up=True))
    return requests


def _by_netlink(link: Link, new: NewInterface) -> None:
    info: dict[str, Any] = {"kind": new.kind.name}
    if new.attributes and new.kind.maker == "netlink":
        info["data"] = dict(new.attributes)
    attributes: dict[str, Any] = {"ifname": link.name, "linkinfo": info}
    if new.on is not None:
        attributes["link"] = new.on.index
        if new.on.home is not link.home:
            attributes["net_ns_fd"] = link.home.network.fd
    if link.mac:
        attributes["address"] = link.mac
    words = ("add", new.kind.name, "interface", link.name)
    body = _body(link, new.kind, attributes)
    request = Request(words, rtlinks.RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, creates_interface=True)
    sender = link.home if new.on is None else new.on.home
    try:
        sender.change(request)
    except KernelError as error:
        if error.errno not in _UNKNOWN_KIND:
            raise
        raise _lacking(new, error) from error


def _lacking(new: NewInterface, error: KernelError) -> UnavailableError:
    """The error for a kind, or an option of it, that this kernel lacks."""
    if new.attributes and "Unknown device type" not in error.kernel_message and error.errno == errno.EOPNOTSUPP:
        options = ", ".join(new.attributes)
        cause = f"this kernel is built without one of them ({error.strerror}, ENOTSUP)"
        return UnavailableError(f"{options} of {new.kind.name} interfaces", cause, "use a distribution's kernel")
    cause, remedy = diagnosis.explain(f"interface {new.kind.name}", error.errno or 0, error.kernel_message)
    return UnavailableError(f"interfaces of kind {new.kind.name}", cause, remedy)


def _body(link: Link, kind: LinkKind, attributes: Mapping[str, Any]) -> bytes:
    try:
        return messages.body("link", {"index": link.index}, attributes)
    except NetnsError:
        raise
    except Exception as error:  # pyroute2's classes raise arbitrary errors for values they cannot encode
        data = attributes["linkinfo"].get("data", {})
        raise InvalidTopologyError(
            f"cannot add {kind.name} interface {link.name!r}: an option has an invalid value: {data!r} ({error})"
        ) from error


def _wireguard(link: Link, new: NewInterface) -> None:
    _by_netlink(link, new)
    wireguard.configure(link.home.network, link.name, new.attributes)


def _tun(link: Link, new: NewInterface) -> None:
    """Create a tun or tap interface: netlink cannot, and its index cannot be chosen."""
    options = new.attributes
    flags = _IFF_TUN if new.kind.name == "tun" else _IFF_TAP
    for name, bit in (("multi_queue", _IFF_MULTI_QUEUE), ("vnet_hdr", _IFF_VNET_HDR)):
        flags |= bit if options.get(name) else 0
    flags |= 0 if options.get("pi") else _IFF_NO_PI
    with link.home.network.entered():  # the device belongs to the namespace in which it is opened
        device = _open_tun(new.kind)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", link.name.encode(), flags))
        for name, request in (("user", _TUNSETOWNER), ("group", _TUNSETGROUP)):
            if name in options:
                fcntl.ioctl(device, request, options[name])
        fcntl.ioctl(device, _TUNSETPERSIST, 1)
    except OSError as error:
        action = f"add {new.kind.name} interface {link.name}"
        code = error.errno or errno.EIO
        raise KernelError(action, code, namespace=link.home.name, creates_interface=True) from error
    finally:
        os.close(device)
    infos = link.home.netlink.dump(rtlinks.dump_links(), rtlinks.parse_link)
    link.index = next(info.index for info in infos if info.name == link.name)
    if link.mac:
        link.home.change(rtlinks.set_link(link.index, link.name, mac=link.mac))


def _open_tun(kind: LinkKind) -> int:
    try:
        return os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        cause, remedy = diagnosis.explain("interface tun", error.errno or 0)
        raise UnavailableError(f"interfaces of kind {kind.name}", cause, remedy) from error


_MAKERS: dict[str, Callable[[Link, NewInterface], None]] = {
    "netlink": _by_netlink,
    "wireguard": _wireguard,
    "tun": _tun,
}

"""The probes of this machine's features: each runs in a child process, in its own namespaces."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from functools import partial

from pytest_netns.errors import RulesetError
from pytest_netns.kernel.netlink import messages, redirect, rtlinks, wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.nft import nftables
from pytest_netns.kernel.programs import mounts
from pytest_netns.kernel.spaces import sysctls
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import ipv6, syscalls
from pytest_netns.machine import attempts, probing, rootless
from pytest_netns.machine.attempts import StepError, step
from pytest_netns.machine.probing import Probe
from pytest_netns.parts.gateway import firewall, forward, nattable
from pytest_netns.parts.links.kinds import kind_named

_PROC_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
_BASE = 1  # loopback: what qdiscs are put on
_CARD, _CARD_PEER, _NEW = 11, 12, 13  # interface indices
_RTM_NEWQDISC = 36
# The kinds of interfaces that are tried, each with its own example.
_PROBED = ("macvlan", "ipvlan", "vlan", "vxlan", "gretap", "dummy", "wireguard")
_GATEWAY_EXAMPLES = {"port forward": forward.example, "home router": nattable.example, "firewall": firewall.example}
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_FALLBACK_MODULES = {"gretap": "ip_gre"}
_TIMEOUT = 10  # seconds for a program


def everything() -> list[Probe]:
    """All probes, in the order in which they are shown."""
    messages.link_kinds()  # so that pyroute2 is imported once, rather than in each child process
    return [*_namespaces(), *_views(), *_interfaces(), *_nat(), *_impairments(), *_programs()]


# -- namespaces and views --------------------------------------------------------------------------


def _namespaces() -> Iterator[Probe]:
    group = "namespaces"
    yield Probe(group, "user", "only mode root works", rootless.move, base=False)
    yield Probe(
        group,
        "other users",
        "mode rootless has no other users: servers that switch users, and ns.run(user=...), need root",
        rootless.try_users,
        base=False,
    )
    yield Probe(group, "network", "", probing.try_network, base=False)
    yield Probe(group, "PID", "daemons are found and ended one by one", _pid)
    yield Probe(group, "mount", "no separate view of files, see below", _mount)
    yield Probe(group, "host name", "programs see the machine's host name", _host_name)


def _views() -> Iterator[Probe]:
    group = "views"
    yield Probe(
        group,
        "own /etc/hosts",
        "names are looked up as outside",
        partial(_view, "own /etc/hosts", _mount_names),
    )
    yield Probe(group, "own /proc", "programs see the machine's processes", _own_proc)
    yield Probe(
        group,
        "own /sys",
        "/sys/class/net shows the machine's interfaces",
        partial(_view, "own /sys", partial(syscalls.mount, "sysfs", "/sys", "sysfs", _PROC_FLAGS)),
    )
    yield Probe(
        group,
        "write settings",
        "IPv6 is not forwarded and ns.sysctl() can write few settings; IPv4 and NAT work",
        _setting,
    )


def _mount_names() -> None:
    syscalls.mount("tmpfs", "/sys", "tmpfs")
    mounts.mount_names("/sys")


def _pid() -> None:
    with step("PID namespace"):
        syscalls.unshare(syscalls.CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if os.getpid() == 1 else 1)
    if os.waitpid(pid, 0)[1]:
        raise StepError("PID namespace", 0, "the first process in it is not PID 1")


def _mount() -> None:
    if not syscalls.has_capability(syscalls.CAP_SYS_CHROOT):
        remedy = "in a container: --cap-add SYS_CHROOT"
        raise StepError("mount namespace", 0, "entering it requires CAP_SYS_CHROOT", remedy)
    with step("mount namespace"):
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)


def _host_name() -> None:
    with step("host name"):
        syscalls.unshare(syscalls.CLONE_NEWUTS)
        syscalls.set_hostname("probe")


def _view(name: str, mount: Callable[[], None]) -> None:
    _mount()
    with step(name):
        mount()


def _own_proc() -> None:
    with step("PID namespace"):
        syscalls.unshare(syscalls.CLONE_NEWPID)
    failure = attempts.try_in_child(
        lambda: _view("own /proc", lambda: syscalls.mount("proc", "/proc", "proc", _PROC_FLAGS))
    )
    if failure is not None:
        raise failure


def _setting() -> None:
    with step("sysctl"):
        sysctls.write("ipv4/ip_forward", "1")


# -- interfaces ------------------------------------------------------------------------------------


def _interfaces() -> Iterator[Probe]:
    group = "interfaces"
    yield Probe(group, "veth", "", _veth)
    yield Probe(group, "bridge", "only veth pairs work; netns_lan and netns_nat do not", partial(_link, "bridge"))
    for name in _PROBED:
        attempt = partial(_link, name)
        yield Probe(group, name, "", partial(_if_loaded, name, attempt) if name in _FALLBACK_MODULES else attempt)
    yield Probe(group, "IPv6", "IPv4 works; IPv6 addresses, routes and sockets do not", _ipv6)
    yield Probe(
        group,
        "empty namespaces",
        "programs see these tunnels in each namespace, down; ns.interfaces lists them once they are up",
        _nothing_but_loopback,
    )
    yield Probe(group, "tun", "programs that open /dev/net/tun, such as VPNs, do not work", _tun)


def _if_loaded(kind: str, attempt: Callable[[], None]) -> None:
    """Try it unless that would load a module that adds fallback tunnels to the machine and all its namespaces."""
    module = _FALLBACK_MODULES[kind]
    if not os.path.exists(f"/sys/module/{module}") and not _fallback_tunnels(NetworkNamespace.create("probe")):
        cause = (
            f"module {module} is not loaded, and loading it would add interfaces to this machine, so it was not tried"
        )
        raise StepError(f"interface {kind}", 0, cause, f"sudo modprobe {module}")
    attempt()


def _veth() -> None:
    namespace = NetworkNamespace.create("probe")
    with step("interface veth"):
        namespace.netlink.request(rtlinks.add_veth("a", _CARD, "b", _CARD_PEER, namespace.fd))


def _link(name: str) -> None:
    """Add an interface with the kind's example, on a veth if it needs a lower interface."""
    kind = kind_named(name)
    namespace = NetworkNamespace.create("probe")
    info: dict[str, object] = {"kind": name}
    if kind.example and kind.maker == "netlink":
        info["data"] = kind.attributes(kind.example)
    attributes: dict[str, object] = {"ifname": "probe0", "linkinfo": info}
    if "link" in kind.needs:
        with step("interface veth"):
            namespace.netlink.request(rtlinks.add_veth("a", _CARD, "b", _CARD_PEER, namespace.fd))
        attributes["link"] = _CARD
    body = messages.body("link", {"index": _NEW}, attributes)
    flags = wire.NLM_F_CREATE | wire.NLM_F_EXCL
    with step(f"interface {name}"):
        namespace.netlink.request(Request(("add", name), rtlinks.RTM_NEWLINK, body, flags))


def _ipv6() -> None:
    error = ipv6.missing()
    if error is not None:
        raise error


def _nothing_but_loopback() -> None:
    others = _fallback_tunnels(NetworkNamespace.create("probe"))
    if others:
        raise StepError(
            "empty namespaces",
            0,
            f"this kernel adds fallback tunnels to every network namespace: {', '.join(others)}",
            "sudo sysctl -w net.core.fb_tunnels_only_for_init_net=1",
        )


def _fallback_tunnels(namespace: NetworkNamespace) -> list[str]:
    links = namespace.netlink.dump(rtlinks.dump_links(), rtlinks.parse_link)
    return [link.name for link in links if link.name in rtlinks.FALLBACK_TUNNELS.values()]


def _tun() -> None:
    with step("interface tun"):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", b"probe0", _IFF_TUN | _IFF_NO_PI))


# -- NAT and impaired links ------------------------------------------------------------------------


def _nat() -> Iterator[Probe]:
    group = "NAT"
    without = "everything but NAT and ns.nft() works"
    yield Probe(group, "nft", without, partial(_nft, "ruleset", "add table inet probe"))
    for family, target in (("ip", "192.0.2.1"), ("ip6", "[2001:db8::1]:80")):
        version = "IPv4" if family == "ip" else "IPv6"
        hook = "type nat hook postrouting priority 100"
        rules = {
            "masquerade": (hook, "masquerade"),
            "DNAT": (hook.replace("post", "pre"), f"tcp dport 80 dnat to {target}"),
        }
        for name, (chain, rule) in rules.items():
            text = f"table {family} probe {{ chain probe {{ {chain}; {rule}; }}; }}"
            yield Probe(
                group,
                f"{name} {version}",
                "",
                partial(_nft, name, text),
            )
    for name, example in _GATEWAY_EXAMPLES.items():
        yield Probe(group, name, "", partial(_nft, name, example()))


def _nft(name: str, text: str) -> None:
    namespace = NetworkNamespace.create("probe")
    with step(f"nft {name}"):
        try:
            nftables.apply(namespace, text)
        except RulesetError as error:
            number = next((n for n in _KNOWN if os.strerror(n) in error.nft_message), 0)
            words = "" if number else error.nft_message.strip().splitlines()[0]
            raise StepError(f"nft {name}", number, words) from error


_KNOWN = (2, 1, 13, 95, 97)  # libnftables returns only text: ENOENT, EPERM, EACCES, EOPNOTSUPP, EAFNOSUPPORT


def _impairments() -> Iterator[Probe]:
    group = "impairment"
    netem: dict[str, object] = {"delay": 1, "limit": 1000}
    ethernet = {"rate___reserved": 1}  # the link layer, tc_ratespec of linux/pkt_sched.h
    tbf: dict[str, object] = {"parms": {**ethernet, "rate": 1_000_000, "limit": 1_000_000, "buffer": 1_000_000}}
    without = "the user-space wire impairs links"
    yield Probe(group, "netem", without, partial(_qdisc, "netem", netem))
    yield Probe(group, "tbf", without, partial(_qdisc, "tbf", tbf))
    yield Probe(group, "user-space wire", "only netem can impair links", _user_space_wire)


def _user_space_wire() -> None:
    namespace = NetworkNamespace.create("probe")
    with step("interface veth"):
        namespace.netlink.request(rtlinks.add_veth("a", _CARD, "b", _CARD_PEER, namespace.fd))
    syscalls.setns(namespace.fd, syscalls.CLONE_NEWNET)
    with step("nft user-space wire"), redirect.open_owner() as owner:
        redirect.add_redirect(owner, "probe", "a", _CARD_PEER, "probe")


def _qdisc(kind: str, options: dict[str, object]) -> None:
    namespace = NetworkNamespace.create("probe")
    fields = {"index": _BASE, "handle": 0x10000, "parent": 0xFFFFFFFF}  # the parent is the root
    body = messages.body("queue", fields, {"kind": kind, "options": options})
    with step(f"qdisc {kind}"):
        namespace.netlink.request(Request(("add", kind), _RTM_NEWQDISC, body, wire.NLM_F_CREATE | wire.NLM_F_EXCL))


# -- programs --------------------------------------------------------------------------------------


def _programs() -> Iterator[Probe]:
    yield Probe("programs", "ping", "everything else works", _ping)


def _ping() -> None:
    namespace = NetworkNamespace.create("probe")
    program = shutil.which("ping")
    if program is None:
        raise StepError(
            "ping",
            0,
            "there is no such program",
            "sudo apt-get install iputils-ping (Fedora: sudo dnf install iputils)",
        )
    syscalls.setns(namespace.fd, syscalls.CLONE_NEWNET)
    argv = [program, "-c1", "-W2", "127.0.0.1"]
    with step("ping"):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        remedy = "sudo setcap cap_net_raw+ep " + program if os.geteuid() else ""
        raise StepError("ping", 0, words[-1], remedy)

"""nft rulesets, applied in-process by libnftables through its official Python bindings."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import socket
import struct
import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

from pytest_netns.errors import KernelError, RulesetError, UnavailableError
from pytest_netns.kernel.netlink import wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NETLINK_NETFILTER, NetlinkSocket
from pytest_netns.kernel.nft import bindings
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import diagnosis

_NFNL_SUBSYS_CTNETLINK, _IPCTNL_MSG_CT_DELETE = 1, 2
_NFNL_SUBSYS_NFTABLES, _NFT_MSG_GETGEN = 10, 16
_NFGENMSG_SIZE, _NFTA_GEN_ID, _FIRST_GENERATION = 4, 1, 1

_lock = threading.Lock()  # libnftables keeps state in global variables


def apply(namespace: NetworkNamespace, text: str) -> str:
    """Have nft carry out a text in a namespace; returns its output.

    Raises:
        RulesetError: nft refused it; nothing of it was applied.
        UnavailableError: the bindings or libnftables are not installed.
    """
    module = load()
    with _lock, namespace.entered():
        nft: Any = module.Nftables()  # bound to the namespace it is made in
        status, output, error = nft.cmd(text)
    if status != 0:
        raise RulesetError(text, error, namespace=namespace.name)
    return str(output)


def flush_tracked_connections(namespace: NetworkNamespace) -> None:
    """Forget all tracked connections, so that changed rules hold for flows that exist already."""
    with namespace.entered():
        netlink = NetlinkSocket(namespace.name, NETLINK_NETFILTER)
    try:
        kind = _NFNL_SUBSYS_CTNETLINK << 8 | _IPCTNL_MSG_CT_DELETE
        netlink.request(Request(("flush tracked connections",), kind, struct.pack("=BBH", 0, 0, 0)))
    finally:
        netlink.close()


def has_rules(namespace: NetworkNamespace) -> bool:
    """Whether a namespace has ever had nft rules; a tenth of what asking for them takes."""
    with namespace.entered():
        netlink = NetlinkSocket(namespace.name, NETLINK_NETFILTER)
    try:
        kind = _NFNL_SUBSYS_NFTABLES << 8 | _NFT_MSG_GETGEN
        request = Request(("read the generation of the nft ruleset",), kind, struct.pack("=BBH", 0, 0, 0))
        return netlink.get(request, _parse_generation) > _FIRST_GENERATION
    except KernelError:  # a kernel without nftables
        return False
    finally:
        netlink.close()


def _parse_generation(body: bytes) -> int:
    return int.from_bytes(wire.attributes(body, _NFGENMSG_SIZE)[_NFTA_GEN_ID], "big")


@functools.cache
def load() -> ModuleType:
    """The bindings, wherever they are.

    Raises:
        UnavailableError: they are not installed, or their library is not, or the kernel lacks what they need.
    """
    _check_kernel()
    try:
        module = _import_bindings()
        _open_library_once(module)
        module.Nftables()
    except (ImportError, OSError) as error:
        raise UnavailableError("NAT and nft rulesets", str(error), bindings.REMEDY) from error
    return module


def _check_kernel() -> None:
    """Where the kernel does not know netfilter's sockets libnftables would end the process with exit(3)."""
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER).close()
    except OSError as error:
        cause, remedy = diagnosis.explain("nft", error.errno or 0)
        raise UnavailableError("NAT and nft rulesets", cause, remedy) from error


def _import_bindings() -> ModuleType:
    path = bindings.find()
    if path is None:
        raise ImportError("nft's Python bindings (module nftables) are not installed")
    spec = importlib.util.spec_from_file_location("nftables", path)
    if "nftables" in sys.modules or spec is None or spec.loader is None:
        return importlib.import_module("nftables")
    module = importlib.util.module_from_spec(spec)
    sys.modules["nftables"] = module  # its own relative import needs it there
    spec.loader.exec_module(module)
    return module


def _open_library_once(module: ModuleType) -> None:
    """The bindings open their library anew for every context, which takes longer than most rulesets."""
    inner: Any = sys.modules[module.Nftables.__module__]
    if hasattr(inner, "cdll"):
        inner.cdll = SimpleNamespace(LoadLibrary=functools.cache(inner.cdll.LoadLibrary))

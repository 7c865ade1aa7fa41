"""Network namespace ids (nsid) as rtnetlink requests and values; pure, rtnetlink(7)."""

from __future__ import annotations

import struct

from pytest_netns.kernel.netlink import wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.wire import u32

RTM_NEWNSID, RTM_DELNSID, RTM_GETNSID = 88, 89, 90
RTNLGRP_NSID = 28
_NSID = struct.Struct("=Bxxx")
_NETNSA_NSID, _NETNSA_FD = 1, 3


def add_nsid(descriptor: int, nsid: int) -> Request:
    """Assign an nsid to the namespace of a descriptor, so that RTM_DELNSID reports its end."""
    body = _NSID.pack(0) + u32(_NETNSA_NSID, nsid) + u32(_NETNSA_FD, descriptor)
    return Request(("watch a namespace",), RTM_NEWNSID, body)


def get_nsid(descriptor: int) -> Request:
    """The nsid of a descriptor's namespace; -1 if it has none."""
    return Request(("find a namespace",), RTM_GETNSID, _NSID.pack(0) + u32(_NETNSA_FD, descriptor))


def dump_nsids() -> Request:
    """All nsids assigned in this namespace."""
    return Request(("list namespaces",), RTM_GETNSID, _NSID.pack(0))


def parse_nsid(body: bytes) -> int:
    """The nsid in an RTM_NEWNSID or RTM_DELNSID message."""
    return int(struct.unpack("=i", wire.attributes(body, _NSID.size)[_NETNSA_NSID])[0])

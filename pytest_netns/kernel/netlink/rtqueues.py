"""Queueing disciplines as rtnetlink requests, tc(8): pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_netns.kernel.netlink import messages
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.wire import NLM_F_CREATE, NLM_F_REPLACE

RTM_NEWQDISC, RTM_DELQDISC = 36, 37
ROOT = 0xFFFFFFFF


def replace_queue(
    index: int, name: str, kind: str, handle: int, options: Mapping[str, Any], *, parent: int = ROOT
) -> Request:
    """Add a queueing discipline, or change the one with this handle.

    Args:
        index, name: of the interface; the name only serves the error message.
        kind: ``"tbf"`` or ``"netem"``.
        handle, parent: major number in the upper 16 bits, minor in the lower.
        options: see `messages.body`.
    """
    fields = {"index": index, "handle": handle, "parent": parent}
    body = messages.body("queue", fields, {"kind": kind, "options": options})
    return Request(("set", kind, "of", name), RTM_NEWQDISC, body, NLM_F_CREATE | NLM_F_REPLACE)


def delete_queue(index: int, name: str, handle: int, *, parent: int = ROOT) -> Request:
    """Delete a queueing discipline and its children; a deleted root is replaced by the default one."""
    body = messages.body("queue", {"index": index, "handle": handle, "parent": parent}, {})
    return Request(("delete queueing discipline of", name), RTM_DELQDISC, body)

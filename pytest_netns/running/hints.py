"""Hints for failed commands if the machine is the cause and the kernel's message does not name the remedy."""

from __future__ import annotations

_QUEUE = (
    "this kernel has no such queueing discipline, or its module is not loaded: sudo modprobe sch_NAME, such as sch_netem; "
    "impair(delay=..., loss=..., rate=...) of a veth pair or an interface works without it"
)
_KIND = (
    "this kernel has no such kind of interface, or its module is not loaded: sudo modprobe KIND; "
    "pytest-netns doctor lists the kinds that work here"
)
_HINTS = {"Specified qdisc kind is unknown": _QUEUE, "Unknown device type": _KIND}


def find(stderr: str | bytes | None) -> str | None:
    """A hint for a command's stderr, if there is one."""
    text = stderr.decode(errors="replace") if isinstance(stderr, bytes) else stderr or ""
    return next((hint for sign, hint in _HINTS.items() if sign in text), None)

"""What a failed command's words mean where the machine is the cause: the kernel's own do not say what to do about it."""

from __future__ import annotations

_QUEUE = (
    "this kernel has no such queueing discipline, or its module is not loaded: sudo modprobe sch_NAME, such as sch_netem; "
    "impair(delay=..., loss=..., rate=...) of a cable or an interface works without"
)
_KIND = (
    "this kernel has no such kind of interface, or its module is not loaded: sudo modprobe KIND; "
    "pytest-netns doctor says which kinds work here"
)
_HINTS = {"Specified qdisc kind is unknown": _QUEUE, "Unknown device type": _KIND}


def find(words: str | bytes | None) -> str | None:
    """A hint about what a command wrote to stderr, if there is one."""
    text = words.decode(errors="replace") if isinstance(words, bytes) else words or ""
    return next((hint for sign, hint in _HINTS.items() if sign in text), None)

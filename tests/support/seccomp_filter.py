"""Run a command under a seccomp filter that refuses system calls: ``seccomp_filter.py unshare:EPERM ... -- COMMAND``.

With ``socket/2=12:EPROTONOSUPPORT`` only those whose argument 2, counted from 0, is 12; with ``unshare/0&0x20000000:EPERM``
those with any of these bits. Container runtimes do so by
default; see seccomp(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import NamedTuple

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
# BPF: load a word, jump if it equals a constant, or has one of its bits, return a constant
LOAD, JUMP_IF_EQUAL, JUMP_IF_BITS, RETURN = 0x20, 0x15, 0x45, 0x06
REFUSE, ALLOW = 0x00050000, 0x7FFF0000
SYSTEM_CALLS = {
    "x86_64": {"unshare": 272, "setns": 308, "mount": 165, "clone3": 435, "write": 1, "socket": 41},
    "aarch64": {"unshare": 97, "setns": 268, "mount": 40, "clone3": 435, "write": 64, "socket": 198},
}.get(platform.machine(), {})


class Rule(NamedTuple):
    """A system call to refuse: with any arguments if ``argument`` is None; ``test`` compares it with ``value``."""

    number: int
    argument: int | None
    value: int
    code: int
    test: int = JUMP_IF_EQUAL


def parse(word: str) -> Rule:
    """NAME:ERRNO, NAME/ARGUMENT=VALUE:ERRNO or NAME/ARGUMENT&BITS:ERRNO."""
    call, code = word.split(":")
    name, _, condition = call.partition("/")
    sign = "&" if "&" in condition else "="
    argument, _, value = condition.partition(sign)
    test = JUMP_IF_BITS if sign == "&" else JUMP_IF_EQUAL
    number = SYSTEM_CALLS[name]
    return Rule(number, int(argument) if condition else None, int(value or "0", 0), getattr(errno, code), test)


def program(rules: list[Rule]) -> bytes:
    """The filter's instructions: its data is the system call's number, and its arguments from byte 16 on."""
    lines = []
    for rule in rules:
        checks = [(LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 0, 3 if rule.argument is not None else 1, rule.number)]
        if rule.argument is not None:
            checks += [(LOAD, 0, 0, 16 + 8 * rule.argument), (rule.test, 0, 1, rule.value)]
        lines += [*checks, (RETURN, 0, 0, REFUSE | rule.code)]
    lines.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def install(instructions: bytes) -> None:
    """Put this process, and all its descendants, under the filter."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    argument = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(argument)):
        raise OSError(ctypes.get_errno(), "cannot install the filter")


if __name__ == "__main__":
    cut = sys.argv.index("--")
    install(program([parse(word) for word in sys.argv[1:cut]]))
    os.execvp(sys.argv[cut + 1], sys.argv[cut + 1 :])

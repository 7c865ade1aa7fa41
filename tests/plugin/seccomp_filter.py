"""Run a command under a seccomp filter that refuses system calls: ``seccomp_filter.py unshare:EPERM ... -- COMMAND``.

With ``socket/2=12:EPROTONOSUPPORT`` only those whose argument 2, counted from 0, is 12. What container runtimes do by
default; see seccomp(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from typing import NamedTuple

from environments import SYSTEM_CALLS

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF: load a word, jump if it equals a constant, return a constant
REFUSE, ALLOW = 0x00050000, 0x7FFF0000


class Rule(NamedTuple):
    """A system call to refuse: with any arguments where ``argument`` is None."""

    number: int
    argument: int | None
    value: int
    code: int


def parse(word: str) -> Rule:
    """NAME:ERRNO or NAME/ARGUMENT=VALUE:ERRNO."""
    call, code = word.split(":")
    name, _, condition = call.partition("/")
    argument, _, value = condition.partition("=")
    return Rule(SYSTEM_CALLS[name], int(argument) if condition else None, int(value or 0), getattr(errno, code))


def program(rules: list[Rule]) -> bytes:
    """The filter's instructions: what it sees is the system call's number, and its arguments from byte 16 on."""
    lines = []
    for rule in rules:
        checks = [(LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 0, 3 if rule.argument is not None else 1, rule.number)]
        if rule.argument is not None:
            checks += [(LOAD, 0, 0, 16 + 8 * rule.argument), (JUMP_IF_EQUAL, 0, 1, rule.value)]
        lines += [*checks, (RETURN, 0, 0, REFUSE | rule.code)]
    lines.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def install(instructions: bytes) -> None:
    """Put this process, and all that come of it, under the filter."""
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

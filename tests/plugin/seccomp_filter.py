"""Run a command under a seccomp filter that refuses system calls: ``seccomp_filter.py unshare:EPERM ... -- COMMAND``.

What container runtimes do by default; see seccomp(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from environments import SYSTEM_CALLS

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF: load a word, jump if it equals a constant, return a constant
REFUSE, ALLOW = 0x00050000, 0x7FFF0000


def program(refused: dict[int, int]) -> bytes:
    """The filter's instructions: the system call's number is the first word of what it sees."""
    lines = [(LOAD, 0, 0, 0)]
    for number, code in refused.items():
        lines += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE | code)]
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
    pairs = (word.split(":") for word in sys.argv[1:cut])
    install(program({SYSTEM_CALLS[name]: getattr(errno, code) for name, code in pairs}))
    os.execvp(sys.argv[cut + 1], sys.argv[cut + 1 :])

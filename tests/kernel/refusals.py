"""A pytest plugin for tests of containers' refusals: system calls fail as they do there, by a real seccomp(2) filter.

Usage: ``REFUSE=pids,mounts,proc pytest -p tests.kernel.refusals``
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

import pytest

_NUMBERS = {"x86_64": {"unshare": 272, "mount": 165}, "aarch64": {"unshare": 97, "mount": 40}}[platform.machine()]
_FLAGS = {"pids": 0x20000000, "mounts": 0x00020000, "names": 0x04000000}
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    # Before the plugin looks what there is.
    kinds = set(filter(None, os.environ.get("REFUSE", "").split(",")))
    mask = sum(_FLAGS[kind] for kind in kinds & set(_FLAGS))
    program = [(_LOAD, 0, 0, 0)]
    if mask:
        program += [
            (_JUMP_IF_EQUAL, 0, 3, _NUMBERS["unshare"]),
            (_LOAD, 0, 0, 16),
            (_JUMP_IF_BITS, 0, 1, mask),
            (_RETURN, 0, 0, _REFUSE),
            (_LOAD, 0, 0, 0),
        ]
    if "mount" in kinds:
        program += [(_JUMP_IF_EQUAL, 0, 1, _NUMBERS["mount"]), (_RETURN, 0, 0, _REFUSE)]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0) == 0, ctypes.get_errno()

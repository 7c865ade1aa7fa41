"""System calls for which Python 3.11 has no function; no other module calls unshare, setns, mount, prctl or capset.

Imports only the standard library, because the supervisor runs this file outside of the package.
All functions raise a plain `OSError`; callers name the action.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC = 32, 4096, 16384
MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 18, 1 << 19, 1 << 20
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 4, 24
PR_SET_CHILD_SUBREAPER, PR_CAP_AMBIENT = 36, 47
PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_LOWER = 2, 3

CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID = 0, 5, 6, 7
CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_CHROOT, CAP_SYS_PTRACE, CAP_SYS_ADMIN = 10, 12, 13, 18, 19, 21
_CAPABILITY_VERSION_3 = 0x20080522  # capget(2): two 32-bit words per set

if sys.platform == "linux":  # suites import Lab elsewhere too, for annotations
    _libc = ctypes.CDLL(None, use_errno=True)
    _libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    _libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
    # Calls that return at once keep the GIL: with a busy thread, reacquiring it would take 5 ms.
    _holding_gil = ctypes.PyDLL(None, use_errno=True)
    _setns, _waitid = _holding_gil.setns, _holding_gil.waitid
    _setns.argtypes = (ctypes.c_int, ctypes.c_int)
    _waitid.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    _CHILDREN_OF_THREAD = os.WEXITED | os.WNOHANG | os.WNOWAIT | 0x60000000  # __WNOTHREAD, __WALL


def _check(result: int, name: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces, unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """Move the calling thread into the namespaces of a descriptor (a namespace's or a pidfd), setns(2)."""
    while _setns(fd, flags) != 0:
        if ctypes.get_errno() != errno.EINTR:
            _check(-1, "setns")


def has_children() -> bool:
    """Whether the calling thread itself has children that have not been reaped, waitid(2)."""
    return bool(_waitid(0, 0, None, _CHILDREN_OF_THREAD) == 0)  # P_ALL


def mount(source: str, target: str, filesystem: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    texts = (source.encode(), target.encode(), filesystem.encode() or None, data.encode() or None)
    _check(_libc.mount(texts[0], texts[1], texts[2], flags, texts[3]), f"mount {target}")


def mount_detached(filesystem: str) -> int:
    """Create a file system instance that is not mounted; returns a descriptor of its root: fsopen(2), fsconfig(2), fsmount(2)."""
    context = _syscall(430, filesystem.encode(), 1)  # FSOPEN_CLOEXEC; numbers are the same on every architecture
    try:
        _syscall(431, context, 6, None, None, 0)  # FSCONFIG_CMD_CREATE
        return _syscall(432, context, 1, MS_NOSUID | MS_NODEV | MS_NOEXEC)  # FSMOUNT_CLOEXEC; same bits as mount's
    finally:
        os.close(context)


def _syscall(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        _check(result, f"system call {number}")
    return result


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def prctl(option: int, value: int = 0, value2: int = 0) -> None:
    """prctl(2)."""
    _check(_libc.prctl(option, value, value2, 0, 0), f"prctl {option}")


def set_hostname(name: str) -> None:
    """Set the host name of the calling process's UTS namespace, sethostname(2)."""
    encoded = name.encode()
    _check(_libc.sethostname(encoded, len(encoded)), "sethostname")


def effective_capabilities() -> int:
    """The calling thread's effective capabilities as a bit mask, capget(2)."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(24)
    _check(_libc.capget(header, data), "capget")
    words = struct.unpack("=6I", data.raw[:24])
    return int(words[0] | words[3] << 32)


def set_capabilities(mask: int) -> None:
    """Set the calling thread's effective, permitted and inheritable capabilities to a mask, capset(2)."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = ctypes.create_string_buffer(struct.pack("=6I", low, low, low, high, high, high))
    _check(_libc.capset(header, data), "capset")


def has_capability(capability: int) -> bool:
    """Whether the calling thread has the capability in its own user namespace."""
    return bool(effective_capabilities() >> capability & 1)


def pidfd_getfd(pidfd: int, descriptor: int) -> int:
    """Duplicate a descriptor of another process, pidfd_getfd(2)."""
    number = 438  # the same on every architecture since Linux 5.6
    copy = int(_libc.syscall(number, pidfd, descriptor, 0))
    if copy < 0:
        _check(copy, "pidfd_getfd")
    return copy

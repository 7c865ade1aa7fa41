"""What the programs of a namespace see of files: mounts of their own, with their own /proc, /sys and names, and a host name.

Standard library only: the supervisor runs this file outside of the package, see supervisor.py.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Mapping

TYPE_CHECKING = False  # as in typing, which takes too long to import here
if TYPE_CHECKING or __package__:
    from pytest_netns.kernel.system import syscalls
else:
    import syscalls

NAMES_HEADER = "# This namespace's own, written by pytest-netns.\n"  # of the files in /etc that may be overwritten
NETNS_DIRECTORY = "/run/netns"  # where ip-netns(8) keeps its names
# Descriptors that an init keeps open, so that they have a path below /proc as long as it lives:
FILES_FD = 100  # the directory of this view's own files, which no path leads to
PEERS_FD = 101  # pytest's /proc/PID/fd, with its descriptors of network namespaces
_XTABLES_LOCK = "/run/xtables.lock"  # iptables(8)
_NOBODY = 65534  # whom the kernel shows where an owner is not in the user namespace, user_namespaces(7)
_ORIGINAL = ".machine"  # where a directory that has been replaced shows what the machine has there
_NAME_FILES = ("hosts", "resolv.conf", "nsswitch.conf")


def make_view(name: str) -> list[str]:
    """Own mounts and host name; returns a line for each part that this environment refuses."""
    lacks: list[str] = []

    def attempt(part: str, *steps: tuple[object, ...]) -> bool:
        try:
            for function, *arguments in steps:
                function(*arguments)  # type: ignore[operator]
        except OSError as error:
            lacks.append(f"{part}: {error.strerror}")
            return False
        return True

    if attempt("host name", (syscalls.unshare, syscalls.CLONE_NEWUTS)):
        attempt("host name", (syscalls.set_hostname, name))
    if not syscalls.has_capability(syscalls.CAP_SYS_CHROOT):  # setns(2)
        return [*lacks, "mount namespace: nobody could enter it without CAP_SYS_CHROOT"]
    if not attempt("mount namespace", (syscalls.unshare, syscalls.CLONE_NEWNS)):
        return lacks
    # Mounts made outside later still arrive (slave); what is mounted here never leaves.
    if not attempt("mount namespace", (syscalls.mount, "", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)):
        return lacks
    _share_mounts()
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    # The files' tmpfs is mounted where /sys is going to hide it: taking it away again would cost 3 ms (RCU).
    cgroups = os.open("/sys/fs/cgroup", os.O_PATH | os.O_CLOEXEC) if os.path.isdir("/sys/fs/cgroup") else -1
    with contextlib.suppress(OSError):  # once more, as it is in these mounts
        _keep_open(os.readlink(f"/proc/self/fd/{PEERS_FD}"), PEERS_FD)
    files = attempt("own /etc/hosts", (syscalls.mount, "tmpfs", "/sys", "tmpfs", flags, "mode=755"))
    if files:
        attempt("own /etc/hosts", (mount_names, "/sys"))
        attempt(f"own {NETNS_DIRECTORY}", (mount_netns_directory, "/sys"))
        with contextlib.suppress(OSError):
            mount_lock("/sys")
        _keep_open("/sys", FILES_FD)
    flags |= syscalls.MS_NOEXEC
    attempt("own /proc", (syscalls.mount, "proc", "/proc", "proc", flags))
    if attempt("own /sys", (syscalls.mount, "sysfs", "/sys", "sysfs", flags)):
        if cgroups >= 0:  # the control groups stay where they were
            with contextlib.suppress(OSError):
                source = f"/proc/self/fd/{cgroups}"
                syscalls.mount(source, "/sys/fs/cgroup", "", syscalls.MS_BIND | syscalls.MS_REC)
    elif files:
        syscalls.umount("/sys")
    if cgroups >= 0:
        os.close(cgroups)
    return lacks


def _share_mounts() -> None:
    """What a program mounts is seen by Python code, which has a copy of these mounts, and the other way round.

    Not so below /proc, of which the copy has another one.
    """
    with contextlib.suppress(OSError):
        syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_SHARED)
        syscalls.mount("", "/proc", "", syscalls.MS_SLAVE)


def _keep_open(path: str, number: int) -> None:
    """Open a directory as a certain descriptor."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    os.dup2(fd, number, inheritable=False)
    os.close(fd)


def keep_peers(pid: int) -> None:
    """Open the descriptors of pytest; what is forked from now on has this one too."""
    with contextlib.suppress(OSError):
        _keep_open(f"/proc/{pid}/fd", PEERS_FD)


def close_others() -> None:
    """Close all descriptors but the standard ones and those to be kept."""
    os.closerange(3, FILES_FD)
    os.closerange(PEERS_FD + 1, 1 << 16)


# -- names -----------------------------------------------------------------------------------------


def mount_names(directory: str) -> None:
    """Own /etc/hosts, /etc/resolv.conf and /etc/nsswitch.conf, from files in a directory nobody else sees.

    nss-resolve and nscd are asked over unix sockets, which a network namespace does not isolate: the name services are
    reduced to files and DNS, and nscd's directory is hidden.
    """
    services = [b"hosts: files dns\n"]
    with contextlib.suppress(OSError), open("/etc/nsswitch.conf", "rb") as original:  # comments may be in any encoding
        services += [line for line in original if not line.startswith(b"hosts:")]
    hosts = f"{NAMES_HEADER}127.0.0.1 localhost\n::1 localhost\n"
    contents = (hosts.encode(), NAMES_HEADER.encode(), b"".join(services))
    for name, content in zip(_NAME_FILES, contents, strict=True):
        with open(f"{directory}/{name}", "wb") as file:
            file.write(content)
        if os.path.exists(f"/etc/{name}"):
            syscalls.mount(f"{directory}/{name}", f"/etc/{name}", "", syscalls.MS_BIND)
    if os.path.isdir("/run/nscd"):
        os.mkdir(f"{directory}/nscd")
        syscalls.mount(f"{directory}/nscd", "/run/nscd", "", syscalls.MS_BIND)


def outside() -> tuple[tuple[int, int], ...]:
    """What a view follows: which files the machine has for names (where one is replaced, nothing is mounted on the new one), and what is in /run."""
    found = []
    for name in _NAME_FILES:
        try:
            status = os.stat(f"/etc/{name}")
            found.append((status.st_dev, status.st_ino))
        except OSError:
            found.append((0, 0))
    with contextlib.suppress(OSError):
        found.append((0, os.stat("/run").st_mtime_ns))
    return tuple(found)


def follow(directory: str) -> None:
    """Mount the own files again where nothing is mounted, and have what is new in /run. Run inside."""
    if os.path.isdir(f"/run/{_ORIGINAL}"):
        _follow_links("/run")
    for name in _NAME_FILES:
        if not os.path.exists(f"/etc/{name}"):
            continue
        try:
            syscalls.mount("", f"/etc/{name}", "", syscalls.MS_SHARED)  # as it is, if something is mounted here
        except OSError as error:
            if error.errno == errno.EINVAL:
                syscalls.mount(f"{directory}/{name}", f"/etc/{name}", "", syscalls.MS_BIND)


def write_own(path: str, text: str) -> bool:
    """Replace a file's text, but only if its header says that it is ours: it may be the machine's own."""
    header = NAMES_HEADER.encode()
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if os.pread(fd, len(header), 0) != header:
            return False
        # Padded instead of cut, so that nobody reads half of a file.
        os.pwrite(fd, text.encode().ljust(os.fstat(fd).st_size, b"\n"), 0)
        return True
    finally:
        os.close(fd)


# -- /run/netns ------------------------------------------------------------------------------------


def mount_netns_directory(directory: str) -> None:
    """An own, empty /run/netns: what `ip netns` makes here stays here."""
    own = f"{directory}/netns"
    os.mkdir(own)
    if not os.path.isdir(NETNS_DIRECTORY):
        with contextlib.suppress(OSError):  # as `ip netns add` makes it
            os.mkdir(NETNS_DIRECTORY)
    if not os.path.isdir(NETNS_DIRECTORY):
        os.mkdir(f"{directory}/run")
        replace_directory("/run", f"{directory}/run")
        os.mkdir(NETNS_DIRECTORY)
    syscalls.mount(own, NETNS_DIRECTORY, "", syscalls.MS_BIND)
    # Python code has a list of its own on top, with other paths in it: see View.
    syscalls.mount("", NETNS_DIRECTORY, "", syscalls.MS_PRIVATE)


def mount_lock(directory: str) -> None:
    """An own lock for iptables, where root's has left one that nobody else may open."""
    if os.path.exists(_XTABLES_LOCK):
        own = f"{directory}/xtables.lock"
        os.close(os.open(own, os.O_CREAT | os.O_CLOEXEC, 0o600))
        syscalls.mount(own, _XTABLES_LOCK, "", syscalls.MS_BIND)


def replace_directory(path: str, own: str) -> None:
    """Mount an own directory over one of the machine's, with links to all that is there; so more can be made in it."""
    os.mkdir(f"{own}/{_ORIGINAL}")
    for name in os.listdir(path):
        link = f"{path}/{name}"
        os.symlink(os.readlink(link) if os.path.islink(link) else f"{_ORIGINAL}/{name}", f"{own}/{name}")
    give_as(os.stat(path), own)
    syscalls.mount(path, f"{own}/{_ORIGINAL}", "", syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.mount(own, path, "", syscalls.MS_BIND | syscalls.MS_REC)


def _follow_links(own: str) -> None:
    """Have the links of a replaced directory lead to what the machine has there now."""
    there = set(os.listdir(f"{own}/{_ORIGINAL}"))
    for name in os.listdir(own):
        with contextlib.suppress(OSError):  # no link
            if name not in there and os.readlink(f"{own}/{name}").startswith(f"{_ORIGINAL}/"):
                os.unlink(f"{own}/{name}")
    for name in there:
        with contextlib.suppress(FileExistsError):
            os.symlink(f"{_ORIGINAL}/{name}", f"{own}/{name}")


def give_as(status: os.stat_result, own: str) -> None:
    """Give something of our own an owner and mode, if that owner is in this user namespace: others look like nobody."""
    os.chmod(own, stat.S_IMODE(status.st_mode))
    give_to(status, own)


def give_to(status: os.stat_result, own: str) -> None:
    """Give something of our own an owner."""
    for uid, gid in ((status.st_uid, -1), (-1, status.st_gid)):
        if _NOBODY not in (uid, gid):
            with contextlib.suppress(OSError):
                os.chown(own, uid, gid)


@functools.cache
def descriptors_directory(pid: int) -> str:
    """Where a process's descriptors of namespaces have paths that lead to them in views too."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        started = (
            file.read().rpartition(")")[2].split()[19]
        )  # proc_pid_stat(5): tells processes with the same PID apart
    return f"/tmp/pytest-netns-{pid}-{started}"


def remove_descriptors_directory(path: str) -> None:
    """Remove it, once nobody needs its paths any more."""
    with contextlib.suppress(OSError):
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)


def show_peers(init_directory: str, path: str) -> None:
    """Mount pytest's descriptors at a path. Run inside."""
    syscalls.mount(f"{init_directory}/{PEERS_FD}", path, "", syscalls.MS_BIND)


def list_namespaces(directory: int, wanted: Mapping[str, str], present: Mapping[str, str]) -> None:
    """Have a directory list namespaces by name, as links to them.

    Args:
        directory: a descriptor, such as of /run/netns.
        wanted: where each name is to lead.
        present: what was wanted the last time.
    """
    for name in present.keys() - wanted.keys():
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
    for name, target in wanted.items():
        if present.get(name) != target:
            with contextlib.suppress(FileExistsError):  # a program has made one of that name
                os.symlink(target, name, dir_fd=directory)

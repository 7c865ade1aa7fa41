"""The mount view of a namespace's programs: their own mounts with /proc, /sys and name resolution files, and a host name.

Standard library only: the supervisor runs this file outside of the package, see supervisor.py.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from collections.abc import Callable, Mapping

TYPE_CHECKING = False  # as in typing, which takes too long to import here
if TYPE_CHECKING or __package__:
    from pytest_netns.kernel.system import procfs, syscalls
else:
    import procfs
    import syscalls

NAMES_HEADER = "# This namespace's own, written by pytest-netns.\n"  # of the files in /etc that may be overwritten
NETNS_DIRECTORY = "/run/netns"  # the directory of ip-netns(8)'s names
# Descriptors that an init keeps open, so that they have a path below /proc as long as it lives:
FILES_FD = 100  # the directory of this view's own files, which has no path
PEERS_FD = 101  # pytest's /proc/PID/fd, with its descriptors of network namespaces
_XTABLES_LOCK = "/run/xtables.lock"  # iptables(8)
_NOBODY = 65534  # the owner shown by the kernel for users outside of the user namespace, user_namespaces(7)
_ORIGINAL = ".machine"  # the machine's original, in a replaced directory
_NAME_FILES = ("hosts", "resolv.conf", "nsswitch.conf")


def make_view(name: str) -> list[str]:
    """Give the calling process its own mounts and host name; returns a line for each part that this environment refuses."""
    refused: list[str] = []

    def attempt(part: str, *steps: tuple[Callable[..., object], *tuple[object, ...]]) -> bool:
        try:
            for function, *arguments in steps:
                function(*arguments)
        except OSError as error:
            refused.append(f"{part}: {error.strerror}")
            return False
        return True

    if attempt("host name", (syscalls.unshare, syscalls.CLONE_NEWUTS)):
        attempt("host name", (syscalls.set_hostname, name))
    if not syscalls.has_capability(syscalls.CAP_SYS_CHROOT):  # setns(2)
        return [*refused, "mount namespace: entering it requires CAP_SYS_CHROOT"]
    if not attempt("mount namespace", (syscalls.unshare, syscalls.CLONE_NEWNS)):
        return refused
    # Later mounts outside still propagate to this view (slave); mounts in this view do not propagate out.
    if not attempt("mount namespace", (syscalls.mount, "", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)):
        return refused
    _share_mounts()
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    # The tmpfs of the files is mounted where /sys will hide it: unmounting it would take 3 ms (RCU).
    cgroups = os.open("/sys/fs/cgroup", os.O_PATH | os.O_CLOEXEC) if os.path.isdir("/sys/fs/cgroup") else -1
    with contextlib.suppress(OSError):  # open it again within these mounts
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
    return refused


def _share_mounts() -> None:
    """Propagate mounts between programs and Python code, which has a copy of these mounts.

    Except below /proc: the copy has a different one.
    """
    with contextlib.suppress(OSError):
        syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_SHARED)
        syscalls.mount("", "/proc", "", syscalls.MS_SLAVE)


def _keep_open(path: str, number: int) -> None:
    """Open a directory with a given descriptor number."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    os.dup2(fd, number, inheritable=False)
    os.close(fd)


def open_peers(pid: int) -> None:
    """Open the directory of pytest's descriptors; processes forked later inherit it."""
    with contextlib.suppress(OSError):
        _keep_open(f"/proc/{pid}/fd", PEERS_FD)


def close_others() -> None:
    """Close all descriptors except the standard ones, FILES_FD and PEERS_FD."""
    os.closerange(3, FILES_FD)
    os.closerange(PEERS_FD + 1, 1 << 16)


# -- names -----------------------------------------------------------------------------------------


def mount_names(directory: str) -> None:
    """Mount the view's own /etc/hosts, /etc/resolv.conf and /etc/nsswitch.conf, from files in a private directory.

    nss-resolve and nscd are queried over unix sockets, which a network namespace does not isolate: so nsswitch.conf is
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


def source_state() -> tuple[tuple[int, int], ...]:
    """The state of the machine's files that a view depends on: name resolution files (nothing is mounted on a replaced one) and /run."""
    state: list[tuple[int, int]] = []
    for name in _NAME_FILES:
        try:
            status = os.stat(f"/etc/{name}")
            state.append((status.st_dev, status.st_ino))
        except OSError:
            state.append((0, 0))
    with contextlib.suppress(OSError):
        state.append((0, os.stat("/run").st_mtime_ns))
    return tuple(state)


def refresh(directory: str) -> None:
    """Mount the view's files again if the machine's were replaced, and show new entries of /run. Run inside."""
    if os.path.isdir(f"/run/{_ORIGINAL}"):
        _refresh_links("/run")
    for name in _NAME_FILES:
        if not os.path.exists(f"/etc/{name}"):
            continue
        try:
            syscalls.mount(
                "", f"/etc/{name}", "", syscalls.MS_SHARED
            )  # succeeds without effect if something is mounted here
        except OSError as error:
            if error.errno == errno.EINVAL:
                syscalls.mount(f"{directory}/{name}", f"/etc/{name}", "", syscalls.MS_BIND)


def write_own(path: str, text: str) -> bool:
    """Replace a file's text if its header says that it is ours; otherwise it may be the machine's."""
    header = NAMES_HEADER.encode()
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if os.pread(fd, len(header), 0) != header:
            return False
        # Padded instead of truncated, so that no reader sees half of a file.
        os.pwrite(fd, text.encode().ljust(os.fstat(fd).st_size, b"\n"), 0)
        return True
    finally:
        os.close(fd)


# -- /run/netns ------------------------------------------------------------------------------------


def mount_netns_directory(directory: str) -> None:
    """Mount an empty /run/netns: what `ip netns` creates in this view stays in it."""
    netns_directory = f"{directory}/netns"
    os.mkdir(netns_directory)
    if not os.path.isdir(NETNS_DIRECTORY):
        with contextlib.suppress(OSError):  # as `ip netns add` creates it
            os.mkdir(NETNS_DIRECTORY)
    if not os.path.isdir(NETNS_DIRECTORY):
        os.mkdir(f"{directory}/run")
        replace_directory("/run", f"{directory}/run")
        os.mkdir(NETNS_DIRECTORY)
    syscalls.mount(netns_directory, NETNS_DIRECTORY, "", syscalls.MS_BIND)
    # Python code has another list on top, with other paths in it: see View.
    syscalls.mount("", NETNS_DIRECTORY, "", syscalls.MS_PRIVATE)


def mount_lock(directory: str) -> None:
    """Give iptables its own lock file, if root has left one that other users may not open."""
    if os.path.exists(_XTABLES_LOCK):
        lock = f"{directory}/xtables.lock"
        os.close(os.open(lock, os.O_CREAT | os.O_CLOEXEC, 0o600))
        syscalls.mount(lock, _XTABLES_LOCK, "", syscalls.MS_BIND)


def replace_directory(path: str, replacement: str) -> None:
    """Mount a new directory over one of the machine's, with links to its entries, so that new entries can be created in it."""
    os.mkdir(f"{replacement}/{_ORIGINAL}")
    for name in os.listdir(path):
        link = f"{path}/{name}"
        os.symlink(os.readlink(link) if os.path.islink(link) else f"{_ORIGINAL}/{name}", f"{replacement}/{name}")
    copy_owner_and_mode(os.stat(path), replacement)
    syscalls.mount(path, f"{replacement}/{_ORIGINAL}", "", syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.mount(replacement, path, "", syscalls.MS_BIND | syscalls.MS_REC)


def _refresh_links(replacement: str) -> None:
    """Update the links of a replaced directory to the machine's current entries."""
    present = set(os.listdir(f"{replacement}/{_ORIGINAL}"))
    for name in os.listdir(replacement):
        with contextlib.suppress(OSError):  # not a link
            if name not in present and os.readlink(f"{replacement}/{name}").startswith(f"{_ORIGINAL}/"):
                os.unlink(f"{replacement}/{name}")
    for name in present:
        with contextlib.suppress(FileExistsError):
            os.symlink(f"{_ORIGINAL}/{name}", f"{replacement}/{name}")


def copy_owner_and_mode(status: os.stat_result, path: str) -> None:
    """Give a file of ours an owner and mode. Owners outside of this user namespace are skipped: they appear as nobody."""
    os.chmod(path, stat.S_IMODE(status.st_mode))
    copy_owner(status, path)


def copy_owner(status: os.stat_result, path: str) -> None:
    """Give a file of ours an owner."""
    for uid, gid in ((status.st_uid, -1), (-1, status.st_gid)):
        if _NOBODY not in (uid, gid):
            with contextlib.suppress(OSError):
                os.chown(path, uid, gid)


@functools.cache
def descriptors_directory(pid: int) -> str:
    """The directory in which a process's namespace descriptors have paths that are valid in views too."""
    started = procfs.stat(pid)[19]  # tells processes with the same PID apart
    return f"/tmp/pytest-netns-{pid}-{started}"


def remove_descriptors_directory(path: str) -> None:
    """Remove the directory once its paths are no longer needed."""
    with contextlib.suppress(OSError):
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)


def show_peers(init_directory: str, path: str) -> None:
    """Bind mount the directory of pytest's descriptors at a path. Run inside."""
    syscalls.mount(f"{init_directory}/{PEERS_FD}", path, "", syscalls.MS_BIND)


def list_namespaces(directory: int, wanted: Mapping[str, str], present: Mapping[str, str]) -> None:
    """Update a directory that lists namespaces by name, as links.

    Args:
        directory: a descriptor, such as of /run/netns.
        wanted: the target of each name.
        present: the previous value of ``wanted``.
    """
    for name in present.keys() - wanted.keys():
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
    for name, target in wanted.items():
        if present.get(name) != target:
            with contextlib.suppress(FileExistsError):  # a program has created one with that name
                os.symlink(target, name, dir_fd=directory)

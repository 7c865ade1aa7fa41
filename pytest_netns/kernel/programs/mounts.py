"""What the programs of a namespace see of files: mounts of their own, with their own /proc, /sys and names, and a host name.

Standard library only: the supervisor runs this file outside of the package, see supervisor.py.
"""

from __future__ import annotations

import contextlib
import os

if __package__:
    from pytest_netns.kernel.system import syscalls
else:
    import syscalls  # type: ignore[import-not-found, no-redef]

NAMES_HEADER = "# This namespace's own, written by pytest-netns.\n"  # of the files in /etc that may be overwritten


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
    if not attempt("mount namespace", (syscalls.unshare, syscalls.CLONE_NEWNS)):
        return lacks
    # Mounts made outside later still arrive (slave); what is mounted here never leaves.
    if not attempt("mount namespace", (syscalls.mount, "", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)):
        return lacks
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    # The files' tmpfs is mounted where /sys is going to hide it: taking it away again would cost 3 ms (RCU).
    cgroups = os.open("/sys/fs/cgroup", os.O_PATH | os.O_CLOEXEC) if os.path.isdir("/sys/fs/cgroup") else -1
    files = attempt("own /etc/hosts", (syscalls.mount, "tmpfs", "/sys", "tmpfs", flags, "mode=755"))
    if files:
        attempt("own /etc/hosts", (mount_names, "/sys"))
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


def mount_names(directory: str) -> None:
    """Own /etc/hosts, /etc/resolv.conf and /etc/nsswitch.conf, from files in a directory nobody else sees.

    nss-resolve and nscd are asked over unix sockets, which a network namespace does not isolate: the name services are
    reduced to files and DNS, and nscd's directory is hidden.
    """
    services = ["hosts: files dns\n"]
    with contextlib.suppress(OSError), open("/etc/nsswitch.conf", encoding="utf-8") as original:
        services += [line for line in original if not line.startswith("hosts:")]
    hosts = f"{NAMES_HEADER}127.0.0.1 localhost\n::1 localhost\n"
    contents = {"hosts": hosts, "resolv.conf": NAMES_HEADER, "nsswitch.conf": "".join(services)}
    for name, content in contents.items():
        with open(f"{directory}/{name}", "w", encoding="utf-8") as file:
            file.write(content)
        if os.path.exists(f"/etc/{name}"):
            syscalls.mount(f"{directory}/{name}", f"/etc/{name}", "", syscalls.MS_BIND)
    if os.path.isdir("/run/nscd"):
        os.mkdir(f"{directory}/nscd")
        syscalls.mount(f"{directory}/nscd", "/run/nscd", "", syscalls.MS_BIND)


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

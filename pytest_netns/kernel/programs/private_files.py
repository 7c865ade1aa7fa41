"""Private directories and files of one namespace: mounted over the machine's, which are never modified.

Run by a thread inside the view. All private files of a view are in one tmpfs directory, so its device number tells which
files may be written.
"""

from __future__ import annotations

import os
import tempfile

from pytest_netns.kernel.programs import mounts
from pytest_netns.kernel.system import syscalls

_KEPT_MOUNTS = (mounts.NETNS_DIRECTORY,)  # mounts that must stay visible when a directory above them is replaced


def make_private(files: str, path: str) -> None:
    """Mount an empty directory at a path, with the owner and mode of the one there.

    Args:
        files: the directory of the view's private files.
        path: the mount point; created if missing.
    """
    _make_directory(files, path)
    private = _new_directory(files)
    status = os.stat(path)
    kept = [mount for mount in _KEPT_MOUNTS if mount.startswith(f"{path}/")]
    for mount in kept:
        os.makedirs(private + mount.removeprefix(path))
        syscalls.mount(mount, private + mount.removeprefix(path), "", syscalls.MS_BIND)
    mounts.copy_owner_and_mode(status, private)
    syscalls.mount(private, path, "", syscalls.MS_BIND | syscalls.MS_REC)


def write_file(files: str, path: str, content: bytes) -> None:
    """Write a file with this content; with the owner and mode of the existing one, or the owner of its directory."""
    directory = os.path.dirname(path)
    _make_directory(files, directory)
    if os.path.lexists(path) and not _is_own(files, directory):
        private = f"{_new_directory(files)}/{os.path.basename(path)}"
        _write(private, content)
        mounts.copy_owner_and_mode(os.stat(path), private)
        syscalls.mount(private, path, "", syscalls.MS_BIND)
        return
    _make_writable(files, directory)
    _write(path, content)
    mounts.copy_owner(os.stat(directory), path)


def bind(files: str, source: str, target: str, *, read_only: bool) -> None:
    """Bind mount a file or directory of the machine, with the mounts below it, at another path; created if missing."""
    if os.path.isdir(source):
        _make_directory(files, target)
    elif not os.path.lexists(target):
        os.stat(source)  # raises if there is none
        write_file(files, target, b"")
    syscalls.mount(source, target, "", syscalls.MS_BIND | syscalls.MS_REC)
    if read_only:
        # A remount has to repeat the flags already in force, mount(2).
        kept = os.statvfs(target).f_flag & (syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
        flags = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY
        syscalls.mount("", target, "", flags | kept)


def _is_own(files: str, path: str) -> bool:
    return os.stat(path).st_dev == os.stat(files).st_dev


def _make_directory(files: str, path: str) -> None:
    """Create missing directories of a path; nothing is created on the machine itself."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    _make_directory(files, parent)
    _make_writable(files, parent)
    os.mkdir(path)
    os.chmod(path, 0o755)
    mounts.copy_owner(os.stat(parent), path)


def _make_writable(files: str, directory: str) -> None:
    """Replace a directory of the machine by one in which only this view sees new entries."""
    if not _is_own(files, directory):
        if directory == "/":
            raise PermissionError(
                1, "nothing can be added to the root directory; use a path below a directory that exists"
            )
        mounts.replace_directory(directory, _new_directory(files))


def _new_directory(files: str) -> str:
    private = tempfile.mkdtemp(prefix="own-", dir=files)
    os.chmod(private, 0o755)
    return private


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0o644)

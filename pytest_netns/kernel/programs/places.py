"""Directories and files that only the programs of one namespace see: mounted over the machine's, which are never written.

Run by a thread inside the view. What a view has for itself is in one directory (of a tmpfs), so that what may be written is
told by its device number.
"""

from __future__ import annotations

import os
import tempfile

from pytest_netns.kernel.programs import mounts
from pytest_netns.kernel.system import syscalls

_STRANGERS = (mounts.NETNS_DIRECTORY,)  # what is mounted below a directory that is replaced, and has to stay there


def make_private(files: str, path: str) -> None:
    """Mount an empty directory at a path, with the owner and mode of the one there.

    Args:
        files: the directory of what the view has for itself.
        path: where; made if missing.
    """
    _make_directory(files, path)
    own = _new_directory(files)
    status = os.stat(path)
    kept = [each for each in _STRANGERS if each.startswith(f"{path}/")]
    for each in kept:
        os.makedirs(own + each.removeprefix(path))
        syscalls.mount(each, own + each.removeprefix(path), "", syscalls.MS_BIND)
    mounts.give_as(status, own)
    syscalls.mount(own, path, "", syscalls.MS_BIND | syscalls.MS_REC)


def write_file(files: str, path: str, content: bytes) -> None:
    """Have a file with this content at a path; with the owner and mode of the one there, or the owner of its directory."""
    directory = os.path.dirname(path)
    _make_directory(files, directory)
    if os.path.lexists(path) and not _is_own(files, directory):
        own = f"{_new_directory(files)}/{os.path.basename(path)}"
        _write(own, content)
        mounts.give_as(os.stat(path), own)
        syscalls.mount(own, path, "", syscalls.MS_BIND)
        return
    _open_up(files, directory)
    _write(path, content)
    mounts.give_to(os.stat(directory), path)


def bind(files: str, source: str, target: str, *, read_only: bool) -> None:
    """Show a file or directory of the machine, with what is mounted below it, at another path too; made if missing."""
    if os.path.isdir(source):
        _make_directory(files, target)
    elif not os.path.lexists(target):
        os.stat(source)  # says so where there is none
        write_file(files, target, b"")
    syscalls.mount(source, target, "", syscalls.MS_BIND | syscalls.MS_REC)
    if read_only:
        # What the mount forbids already has to be said again, mount(2).
        kept = os.statvfs(target).f_flag & (syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
        flags = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY
        syscalls.mount("", target, "", flags | kept)


def _is_own(files: str, path: str) -> bool:
    return os.stat(path).st_dev == os.stat(files).st_dev


def _make_directory(files: str, path: str) -> None:
    """Make a directory and those above it, where they are missing; on the machine itself nothing is made."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    _make_directory(files, parent)
    _open_up(files, parent)
    os.mkdir(path)
    os.chmod(path, 0o755)
    mounts.give_to(os.stat(parent), path)


def _open_up(files: str, directory: str) -> None:
    """Have a directory in which something can be made that only this view sees."""
    if not _is_own(files, directory):
        if directory == "/":
            raise PermissionError(
                1, "nothing can be added to the root directory; use a path below a directory that exists"
            )
        mounts.replace_directory(directory, _new_directory(files))


def _new_directory(files: str) -> str:
    own = tempfile.mkdtemp(prefix="own-", dir=files)
    os.chmod(own, 0o755)
    return own


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0o644)

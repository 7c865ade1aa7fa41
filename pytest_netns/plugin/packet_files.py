"""The packet files of tests: one for each test, readable only by the owner of the project."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from pytest_netns.plugin.failing import PCAP_DIRECTORY

_LONGEST_NAME = 200  # characters
# Tests whose names stay different when / and :: become dots.
_PLAIN = re.compile(r"([\w-]+/)*[\w-]+\.py(::[\w-]+)*(\[[\w.-]*\])?", re.ASCII)


def write(root: Path, test: str, blocks: Iterable[bytes]) -> Path:
    """Write a test's file, replacing an earlier one; returns its path relative to the root.

    Symbolic links are not followed: neither the directory nor the file may be one.
    """
    name = file_name(test)
    new = f"{name}.{os.getpid()}.new"
    directory = _open_directory(root, make=True)
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _give_to_owner(file.fileno(), root)
                file.writelines(blocks)
            os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(new, dir_fd=directory)
            raise
    finally:
        os.close(directory)
    return Path(PCAP_DIRECTORY, name)


def remove(root: Path, test: str) -> None:
    """Remove a test's file from an earlier run, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        directory = _open_directory(root)
        try:
            os.unlink(file_name(test), dir_fd=directory)
        finally:
            os.close(directory)


def file_name(test: str) -> str:
    """The file name for a test: the same in every run, and unique."""
    name = re.sub(r"[^A-Za-z0-9_.\[\]-]+", ".", test)
    parts = re.split("/|::", test)
    if _PLAIN.fullmatch(test) and "py" not in parts and len(name) <= _LONGEST_NAME:
        return f"{name}.pcapng"
    digest = hashlib.sha256(test.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{name[:_LONGEST_NAME]}-{digest}.pcapng"


def _open_directory(root: Path, *, make: bool = False) -> int:
    place = root / PCAP_DIRECTORY
    if make and not place.is_dir():
        with contextlib.suppress(FileExistsError):  # another xdist worker created it
            place.mkdir(mode=0o700)
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if make:
        _give_to_owner(descriptor, root)
    return descriptor


def _give_to_owner(descriptor: int, root: Path) -> None:
    """Under sudo, let the project's owner read what root has written."""
    owner = root.stat()
    if owner.st_uid != os.geteuid():
        with contextlib.suppress(OSError):  # not root, or a file system without owners
            os.fchown(descriptor, owner.st_uid, owner.st_gid)

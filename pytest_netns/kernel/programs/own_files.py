"""Files that only the programs of one namespace see: name resolution files, /run/netns, private directories."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from pytest_netns.errors import UnavailableError
from pytest_netns.kernel.programs import mounts, private_files
from pytest_netns.kernel.programs.inits import Init
from pytest_netns.kernel.system import syscalls


class OwnFiles:
    """The files of one view.

    Args:
        init: the view's init process.
        run: runs a function on a thread that is inside the view.
        mounts: whether the view has its own mounts.
    """

    def __init__(self, init: Init, run: Callable[[Callable[[], Any]], Any], *, mounts: bool) -> None:
        self._init = init
        self._run = run
        self._mounts = mounts
        self._listing = -1  # descriptor of the directory that Python code sees as /run/netns
        self._listed: Mapping[str, int] = {}
        self._shown = False  # whether pytest's descriptors are shown

    def write_etc(self, name: str, text: str) -> bool:
        """Replace one of the namespace's own files in /etc; returns False if it has none with that name."""
        return self._mounts and bool(self._run(lambda: mounts.write_own(f"/etc/{name}", text)))

    def refresh(self) -> None:
        """Mount the namespace's files in /etc again if the machine's were replaced, and show new entries of its /run."""
        if self.has("own /etc/hosts"):
            self._run(lambda: mounts.refresh(self._directory))

    def list_namespaces(self, descriptors: Mapping[str, int]) -> None:
        """List namespaces by name in /run/netns, given this process's descriptors of them."""
        if descriptors == self._listed or not self._lists_namespaces():
            return
        prefix = f"{self._init_directory}/{mounts.PEERS_FD}" if self.has("own /proc") else _descriptors()
        before, self._listed = self._listed, dict(descriptors)
        self._run(lambda: self._list_inside(prefix, descriptors, before))
        if self._listing >= 0:
            _list_in(self._listing, _descriptors(), descriptors, before)

    def show_descriptors(self, path: str) -> None:
        """Show this process's descriptors at a path that is valid outside too."""
        if not self._shown and self.has("own /etc/hosts") and self.has("own /proc"):
            self._shown = True
            with contextlib.suppress(OSError):  # a program has hidden that directory
                self._run(lambda: mounts.show_peers(self._init_directory, path))

    def make_private(self, path: str) -> None:
        """Mount an empty directory that only this namespace sees."""
        self._make(lambda: private_files.make_private(self._directory, path))

    def write_file(self, path: str, content: bytes) -> None:
        """Write a file that only this namespace sees."""
        self._make(lambda: private_files.write_file(self._directory, path, content))

    def bind(self, source: str, target: str, *, read_only: bool) -> None:
        """Bind mount a file or directory at another path."""
        self._make(lambda: private_files.bind(self._directory, source, target, read_only=read_only))

    def prepare_copy(self) -> None:
        """Prepare the copy of the mounts for Python code: with pytest's /proc, and links that are valid there."""
        if not self.has("own /proc"):
            return
        syscalls.umount("/proc")
        # /proc/net would be that of pytest's main thread.
        syscalls.mount(f"/proc/{self._init.pid}/net", "/proc/self/net", "", syscalls.MS_BIND)
        if self._lists_namespaces() and os.path.isdir(mounts.NETNS_DIRECTORY):
            syscalls.mount("tmpfs", mounts.NETNS_DIRECTORY, "tmpfs", syscalls.MS_NOSUID, "mode=755")
            self._listing = os.open(mounts.NETNS_DIRECTORY, os.O_PATH | os.O_CLOEXEC)
            _list_in(self._listing, _descriptors(), self._listed, {})

    def close(self) -> None:
        """Close the listing's descriptor."""
        listing, self._listing = self._listing, -1
        if listing >= 0:
            os.close(listing)

    def has(self, *parts: str) -> bool:
        """Whether the environment has refused none of these parts."""
        return self._mounts and self._init.has(*parts)

    @property
    def _init_directory(self) -> str:
        """The path of the init's descriptors, as programs see it."""
        return f"/proc/{1 if self.has('own /proc', 'PID namespace') else self._init.pid}/fd"

    @property
    def _directory(self) -> str:
        """The directory of the view's own files."""
        return f"{self._init_directory}/{mounts.FILES_FD}"

    def _lists_namespaces(self) -> bool:
        return self.has("own /etc/hosts", f"own {mounts.NETNS_DIRECTORY}")

    def _list_inside(self, prefix: str, descriptors: Mapping[str, int], before: Mapping[str, int]) -> None:
        # Not by the path /run/netns: a program may have unmounted ours.
        directory = os.open(f"{self._directory}/netns", os.O_PATH | os.O_CLOEXEC)
        try:
            _list_in(directory, prefix, descriptors, before)
        finally:
            os.close(directory)

    def _make(self, function: Callable[[], None]) -> None:
        if not self.has("own /etc/hosts"):
            refused = "; ".join(map(str, self._init.refused)) or "own mounts"
            raise UnavailableError(
                "private files of a namespace",
                f"this environment refuses {refused}",
                "pytest-netns doctor shows how to fix it",
            )
        self._run(function)


def _descriptors() -> str:
    return f"/proc/{os.getpid()}/fd"


def _list_in(directory: int, prefix: str, descriptors: Mapping[str, int], before: Mapping[str, int]) -> None:
    wanted, present = ({name: f"{prefix}/{fd}" for name, fd in listing.items()} for listing in (descriptors, before))
    mounts.list_namespaces(directory, wanted, present)

"""The private directories and files of a namespace, created before its first program runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pytest_netns.errors import KernelError
from pytest_netns.kernel.programs import mounts, supervision
from pytest_netns.kernel.programs.own_files import OwnFiles
from pytest_netns.kernel.programs.view import View


@dataclass(frozen=True)
class _Step:
    action: str
    make: Callable[[OwnFiles], None]


class Files:
    """The files to create in each mount view of a namespace: a forked process has its own view.

    Args:
        namespace: its name, for errors.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._steps: list[_Step] = []
        self._view: View | None = None
        self._done = 0  # the number of steps done in the view
        self._lock = threading.RLock()

    def add(self, private: Iterable[str], files: Iterable[tuple[str, str]]) -> None:
        """Add empty directories, then files with contents; created at the next use of the namespace."""
        with self._lock:
            self._steps += [_private(path) for path in private]
            self._steps += [_file(path, text) for path, text in files]

    def make_private(self, path: str, use: Callable[[], View]) -> None:
        """Create an empty private directory now."""
        self._make(_private(path), use)

    def bind(self, source: str, target: str, use: Callable[[], View], *, read_only: bool) -> None:
        """Bind-mount a file or directory now."""
        action = f"bind {source} to {target}"
        self._make(_Step(action, lambda own_files: own_files.bind(source, target, read_only=read_only)), use)

    def prepare(self, view: View) -> None:
        """Create what this view lacks."""
        with self._lock:
            if view is not self._view:
                self._view, self._done = view, 0
                directory = mounts.descriptors_directory(os.getpid())
                if os.path.isdir(directory):
                    view.files.show_descriptors(directory)
            while self._done < len(self._steps):
                step = self._steps[self._done]
                try:
                    step.make(view.files)
                except OSError as error:
                    known = (error.strerror or "").endswith(os.strerror(error.errno or 0))
                    words = "" if known else error.strerror or ""
                    raise KernelError(
                        step.action, error.errno or 0, namespace=self._namespace, kernel_message=words
                    ) from error
                self._done += 1

    def _make(self, step: _Step, use: Callable[[], View]) -> None:
        use()
        with self._lock:
            self._steps.append(step)
            try:
                use()
            except BaseException:
                self._steps.remove(step)
                raise


def _private(path: str) -> _Step:
    return _Step(f"make a private {path}", lambda own_files: own_files.make_private(path))


def _file(path: str, text: str) -> _Step:
    return _Step(f"write a private {path}", lambda own_files: own_files.write_file(path, text.encode()))


def path_of(fd: int, views: Iterable[View]) -> str:
    """A path to one of this process's namespace descriptors, valid outside and in these views.

    The supervisor removes its directory, however this process ends.
    """
    target = f"/proc/{os.getpid()}/fd/{fd}"
    directory = mounts.descriptors_directory(os.getpid())
    supervision.supervisor()
    try:
        if not os.path.isdir(directory):
            os.mkdir(directory)
            os.chmod(directory, 0o755)
        if os.lstat(directory).st_uid != os.geteuid():
            return target
        if not os.path.lexists(f"{directory}/{fd}"):
            os.symlink(target, f"{directory}/{fd}")
    except OSError:  # /tmp is not writable
        return target
    for view in views:
        view.files.show_descriptors(directory)
    return f"{directory}/{fd}"

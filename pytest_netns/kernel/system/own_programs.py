"""Start the plugin's own programs: single Python files that use the standard library only, in a process each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection

_FOR_THE_LOADER = ("LD_LIBRARY_PATH",)  # without it some Pythons do not find their libraries


def start(
    file: str,
    *arguments: object,
    descriptors: Collection[int],
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    environment: Collection[str] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in a new session, in the calling thread's namespaces.

    Args:
        file: its path.
        descriptors: those that it gets, under the same numbers.
        stdout, stderr: as of `subprocess.Popen`.
        environment: the names of variables that it gets. Others may be meant for pytest's Python.
    """
    kept = (*_FOR_THE_LOADER, *environment)
    return subprocess.Popen(
        # Not by its own name: debuggers attach to every program called Python.
        ["/proc/self/exe", "-I", "-S", file, *map(str, arguments)],
        executable=sys.executable,
        pass_fds=tuple(descriptors),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd="/",
        env={name: os.environ[name] for name in kept if name in os.environ},
        start_new_session=True,
    )

"""Which processes are in which network namespace, as far as this process may look."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessInfo:
    """A process; ``state`` is the letter of proc(5), ``inside`` its PID as it sees it itself."""

    pid: int
    inside: int
    state: str
    command: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.inside} inside) {self.state} {self.command}"


def by_namespace(inodes: Collection[int]) -> dict[int, list[ProcessInfo]]:
    """The processes in each of these network namespaces, in one pass over /proc; never this process itself."""
    found: dict[int, list[ProcessInfo]] = {inode: [] for inode in inodes}
    links = {f"net:[{inode}]": inode for inode in inodes}
    own = str(os.getpid())
    for entry in os.listdir("/proc"):
        if entry.isdigit() and entry != own:
            with contextlib.suppress(OSError):  # it has ended, or is not ours to look at
                inode = links.get(os.readlink(f"/proc/{entry}/ns/net"))
                if inode is not None:
                    found[inode].append(_read(int(entry)))
    return found


def _read(pid: int) -> ProcessInfo:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        arguments = [os.fsdecode(part) for part in file.read().rstrip(b"\0").split(b"\0")]
    command = shlex.join(arguments) if arguments != [""] else f"({status['Name']})"
    inside = int(status.get("NSpid", str(pid)).split()[-1])
    return ProcessInfo(pid, inside, status["State"][:1], command)

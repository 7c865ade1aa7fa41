"""A trial: a program in its own PID namespace, so that exactly its remains are found."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from pytest_netns.kernel.netlink import rtnsid
from pytest_netns.kernel.spaces.destruction import Hub

HERE = Path(__file__).parent
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
WITHIN = 10.0  # seconds within which everything of a victim must be gone; a busy kernel frees namespaces late
PATIENCE = 60.0  # seconds after which a victim counts as hung


class Hang(Exception):
    """A victim did not end, or did not reach its state."""


class Trial:
    """A running victim, and what it has announced.

    Args:
        argv: the victim's command.
        environment: variables added to the environment.
    """

    def __init__(self, argv: list[str], **environment: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="netns-")
        self._hub = Hub()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = f"{self._directory.name}/socket"
        self._listener.bind(path)
        self._listener.listen(128)
        os.chmod(path, 0o777)
        self.output = Path(self._directory.name) / "output"
        environment |= {"FAULTS_SOCKET": path, "PYTHONPATH": str(HERE.parents[1]), "PYTHONWARNINGS": ""}
        with self.output.open("wb") as output:
            self._jail = subprocess.Popen(
                [*UNSHARE, sys.executable, "-I", "-S", str(HERE / "jail.py"), *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=os.environ | environment,
            )
        self._count = 0

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._jail.stdin is not None
        assert self._jail.stdout is not None
        self._jail.stdin.close()
        self._jail.stdout.close()
        self._jail.wait()
        self._listener.close()
        self._hub.close()
        self._directory.cleanup()

    # -- the victim -----------------------------------------------------------------------------------

    def wait_for(self, word: str) -> socket.socket:
        """Wait until the victim sends a word; returns the connection."""
        deadline = time.monotonic() + PATIENCE
        while (left := deadline - time.monotonic()) > 0:
            ended = self._has_ended()  # checked before its last words are read
            if select.select([self._listener], [], [], 0 if ended else min(left, 0.2))[0]:
                said, connection = self._take()
                if said == word:
                    return connection
                connection.close()
            elif ended:
                break
        raise Hang(f"the victim has not said {word!r}: {self.text()}")

    def wait_end(self) -> int:
        """Wait for the victim's end; returns its exit status."""
        assert self._jail.stdout is not None
        deadline = time.monotonic() + PATIENCE
        while not self._has_ended():
            if time.monotonic() > deadline:
                raise Hang(f"the victim has not ended: {self.text()}")
            select.select([self._jail.stdout.fileno(), self._listener.fileno()], [], [], 1)
            self._drain()
        return int(self._jail.stdout.readline() or b"-1")

    def _drain(self) -> None:
        """Receive announced descriptors: one that waits in the socket keeps its namespace alive."""
        while select.select([self._listener], [], [], 0)[0]:
            _, connection = self._take()
            connection.close()

    @property
    def victim(self) -> int:
        """Its PID, as seen from here."""
        (init,) = children(self._jail.pid)
        return min(children(init), key=number_inside)

    @property
    def supervisor(self) -> int:
        """The PID of its supervisor, whose watchdog has no living parent."""
        (init,) = children(self._jail.pid)
        (watchdog,) = (pid for pid in children(init) if pid != self.victim)
        (supervisor,) = children(watchdog)
        return supervisor

    def text(self) -> str:
        """Its output."""
        return self.output.read_text(errors="replace")

    # -- what it leaves -------------------------------------------------------------------------------

    def left_over(self, within: float = WITHIN) -> list[str]:
        """What remains of it after a number of seconds: processes, namespaces; returns as soon as nothing remains."""
        deadline = time.monotonic() + within
        pause = threading.Event()
        while True:
            self._drain()
            (init,) = children(self._jail.pid)
            left = [f"process {pid} ({program(pid)})" for pid in below(init) if not is_zombie(pid)]
            left += [f"namespace {watched.inode}" for watched in self._hub.alive()]
            if not left or time.monotonic() > deadline:
                return left
            pause.wait(0.005)

    def _has_ended(self) -> bool:
        assert self._jail.stdout is not None
        return bool(select.select([self._jail.stdout], [], [], 0)[0])

    def _take(self) -> tuple[str, socket.socket]:
        connection, _ = self._listener.accept()
        word, descriptors, _, _ = socket.recv_fds(connection, 100, 1)
        for fd in descriptors:
            self._watch(fd)
        return word.decode(), connection

    def _watch(self, fd: int) -> None:
        from pytest_netns.kernel.spaces.destruction import Watched

        self._hub._namespace.netlink.request(rtnsid.add_nsid(fd, self._count))
        self._hub._watched[self._count] = Watched("", "", os.fstat(fd).st_ino, closed=0)
        self._count += 1
        os.close(fd)


def children(pid: int) -> list[int]:
    """A process's children."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def number_inside(pid: int) -> int:
    """A process's PID in the namespace of its trial, where PIDs are ascending; outside they wrap around."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended
        return sys.maxsize
    return int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[2])


def below(pid: int) -> list[int]:
    """A process's descendants."""
    found = children(pid)
    return found + [further for child in found for further in below(child)]


def is_zombie(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def program(pid: int) -> str:
    """The command of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:80]
    except OSError:
        return "ended"


def is_root() -> bool:
    """Whether this process is root on the machine, not only in its user namespace."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split()[2] == "4294967295"

"""pytest's side of the user-space wire: one helper process, started at the first need, and replaced if it dies.

It is alone in a network namespace of its own, which is among those that the supervisor's watchdog knows: when pytest ends,
in whatever way, what runs there is killed. It also ends by itself when pytest's end of its control socket is closed.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from pytest_netns.errors import NetnsError
from pytest_netns.kernel.programs import supervision, userwire
from pytest_netns.kernel.spaces import destruction
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import sockets

_TIMEOUT = 20.0  # seconds; it takes a millisecond, a loaded machine may take long

_lock = threading.RLock()
_current: Helper | None = None


class Helper:
    """The running helper.

    Attributes:
        network: the namespace it is in.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sequence = 0
        self._numbers = 0
        supervision.supervisor()  # whose watchdog ends it, should this process die
        self.network = NetworkNamespace.create("wire", _disable_ipv6)
        with contextlib.ExitStack() as undo:
            undo.callback(self.network.close)
            self._watched = destruction.hub().watch(self.network, "the user-space wire")
            with self.network.entered():  # unix sockets belong to a namespace: to the one that ends with the helper
                self._control, theirs = sockets.pair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                undo.callback(self._control.close)
                with theirs:
                    self._process = _start(theirs.fileno())
            self._control.settimeout(_TIMEOUT)
            undo.pop_all()

    def next_number(self) -> int:
        """A number for one more direction of a link."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    def request(self, do: str, descriptors: Sequence[int] = (), **more: Any) -> None:
        """Have something done, see userwire.py, and wait until it is.

        Raises:
            NetnsError: it could not be done, or the helper has died.
        """
        with self._lock:
            self._sequence += 1
            message = json.dumps({"n": self._sequence, "do": do, **more}).encode()
            try:
                socket.send_fds(self._control, [message], descriptors)
                # What answers an earlier question, whose asker was interrupted, is not for us.
                while (answer := self._receive())["n"] != self._sequence:
                    pass
            except OSError as error:
                raise self._dead() from error
        if "error" in answer:
            raise NetnsError(f"cannot impair link: the user-space wire says: {answer['error']}")

    def problem(self) -> str:
        """How it has died; empty where it runs."""
        poll = select.poll()
        if self._control.fileno() >= 0:
            poll.register(self._control, 0)
        if poll.poll(0):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_TIMEOUT)  # it has closed its end, so it is about to end
        status = self._process.poll()
        return "" if status is None else f"the user-space wire (PID {self._process.pid}) has died, status {status}"

    def close(self) -> None:
        """End it."""
        self._watched.closed = time.monotonic()
        self._control.close()
        self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        self.network.close()

    def abandon(self) -> None:
        """In a forked child: let go of what belongs to the parent."""
        self._control.close()
        self._process.returncode = 0
        self.network.close()

    def _receive(self) -> dict[str, Any]:
        data = self._control.recv(userwire.MAX_MESSAGE)
        if not data:
            raise ConnectionResetError
        answer: dict[str, Any] = json.loads(data)
        return answer

    def _dead(self) -> NetnsError:
        words = b""
        assert self._process.stderr is not None
        while select.select([self._process.stderr], [], [], 0)[0] and (
            chunk := os.read(self._process.stderr.fileno(), 4096)
        ):
            words += chunk
        reason = self.problem() or "the user-space wire does not answer"
        said = "".join(words.decode(errors="replace").strip().splitlines()[-1:])
        return NetnsError(f"cannot impair link: {reason}{f': {said}' if said else ''}; links are perfect again")


def helper() -> Helper:
    """The helper of this process; started when there is none that runs."""
    global _current
    with _lock:
        if _current is not None and _current.problem():
            close()
        if _current is None:
            _current = Helper()
            atexit.register(close)
        return _current


def close() -> None:
    """End the helper of this process, if there is one."""
    global _current
    with _lock:
        if _current is not None:
            _current.close()
            _current = None
            atexit.unregister(close)


def _start(control: int) -> subprocess.Popen[bytes]:
    """Start the program; the calling thread is in the namespace it is to be in."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", userwire.__file__, str(control)],
        pass_fds=[control],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        env={},
        start_new_session=True,
    )


def _disable_ipv6(network: NetworkNamespace) -> None:
    """Nothing but what is led there crosses the hidden interfaces; the calling thread is inside."""
    with contextlib.suppress(OSError):  # no IPv6, or settings cannot be written: it would send a little of its own
        network.write_sysctl("ipv6/conf/default/disable_ipv6", "1")


def _after_fork_in_child() -> None:
    global _current, _lock
    _lock = threading.RLock()
    if _current is not None:
        _current.abandon()
        _current = None


os.register_at_fork(after_in_child=_after_fork_in_child)

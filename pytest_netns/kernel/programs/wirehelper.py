"""pytest's side of the user-space wire: one helper process, started on first use, and replaced if it dies.

It runs alone in its own network namespace, which the supervisor's watchdog recognizes: when pytest ends for any reason,
the helper is killed. It also exits by itself when pytest closes its control socket.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

from pytest_netns.errors import NetnsError
from pytest_netns.kernel.programs import supervision, userwire
from pytest_netns.kernel.spaces import destruction
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import once, own_programs, sockets, waiting

_TIMEOUT = 20.0  # seconds; it takes a millisecond, much longer on a loaded machine


class Helper:
    """The running helper.

    Attributes:
        network: the namespace it is in.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sequence = 0
        self._numbers = 0
        supervision.supervisor()  # its watchdog ends the helper if this process dies
        self.network = NetworkNamespace.create("wire", _disable_ipv6)
        with contextlib.ExitStack() as undo:
            undo.callback(self.network.close)
            self._watched = destruction.hub().watch(self.network, "the user-space wire")
            with self.network.entered():  # unix sockets belong to a namespace: to the one that ends with the helper
                self._control, helper_end = sockets.pair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                undo.callback(self._control.close)
                with helper_end:
                    self._control.settimeout(_TIMEOUT)  # nothing may fail once the program runs
                    control = helper_end.fileno()
                    self._process = own_programs.start(
                        userwire.__file__, control, descriptors=[control], stderr=subprocess.PIPE
                    )
            undo.pop_all()

    def next_number(self) -> int:
        """A number for a new direction of a link."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    def request(self, do: str, descriptors: Sequence[int] = (), **parameters: Any) -> None:
        """Send a request, see userwire.py, and wait for the answer.

        Raises:
            NetnsError: the request failed, or the helper has died.
        """
        with self._lock:
            self._sequence += 1
            message = json.dumps({"n": self._sequence, "do": do, **parameters}).encode()
            try:
                socket.send_fds(self._control, [message], descriptors)
                # Skip the answers to earlier requests that were interrupted.
                while (answer := self._receive())["n"] != self._sequence:
                    pass
            except OSError as error:
                raise self._dead() from error
        if "error" in answer:
            raise NetnsError(f"cannot impair link: the user-space wire reports: {answer['error']}")

    def problem(self) -> str:
        """How it has died; empty if it runs."""
        poll = select.poll()
        if self._control.fileno() >= 0:
            poll.register(self._control, 0)
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # what the kernel refuses to tell is no problem
            if poll.poll(0):
                self._process.wait(_TIMEOUT)  # it has closed its socket, so it is about to end
        status = self._process.poll()
        return "" if status is None else f"the user-space wire (PID {self._process.pid}) has died, status {status}"

    def close(self) -> None:
        """End it."""
        self._watched.closed = waiting.now()
        self._control.close()
        self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        self.network.close()

    def abandon(self) -> None:
        """In a forked child: close what belongs to the parent."""
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
        output = b""
        assert self._process.stderr is not None
        while select.select([self._process.stderr], [], [], 0)[0] and (
            chunk := os.read(self._process.stderr.fileno(), 4096)
        ):
            output += chunk
        reason = self.problem() or "the user-space wire does not answer"
        last_line = "".join(output.decode(errors="replace").strip().splitlines()[-1:])
        return NetnsError(
            f"cannot impair link: {reason}{f': {last_line}' if last_line else ''}; links are no longer impaired"
        )


_helper = once.PerProcess(
    Helper, close=Helper.close, abandon=Helper.abandon, is_alive=lambda helper: not helper.problem()
)


def helper() -> Helper:
    """The helper of this process; started if none is running."""
    return _helper.get()


def close() -> None:
    """End the helper of this process, if there is one."""
    _helper.close()


def _disable_ipv6(network: NetworkNamespace) -> None:
    """Disable IPv6, so that only redirected frames cross the hidden interfaces; the calling thread is inside."""
    with contextlib.suppress(
        OSError
    ):  # no IPv6, or settings cannot be written: the kernel then sends some packets itself
        network.write_sysctl("ipv6/conf/default/disable_ipv6", "1")

"""The program that connects namespaces to the real network: ``python -I -S uplink_agent.py``.

It stays in the real network, to which pytest in rootless mode cannot return, and runs one slirp4netns(1) for each uplink.
A process connects to its socket and sends requests; when that process ends, so do its uplinks, and when the process that
started the agent ends, so do the agent and all uplinks.

Standard library only, and run outside of the package, as the supervisor is.

Protocol, over a SOCK_SEQPACKET socket: a request is a JSON object ``{"arguments": [...]}`` with descriptors of a network and
a user namespace; the answer is a JSON object, ``{"number": N}``, which ``{"end": N}`` ends, or ``{"error": MESSAGE}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or __name__ != "__main__":
    from pytest_netns.kernel.system import syscalls
else:
    sys.path[:0] = [os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "kernel", "system")]
    import syscalls

MAX_MESSAGE = 4096
_READY_TIMEOUT = 10.0  # seconds; slirp4netns takes some 20 ms
_WORDS = 2000  # bytes of its error output


class Client:
    """A process that has uplinks.

    Args:
        connection: its socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        pid = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
        self.pidfd = os.pidfd_open(pid)
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._number = 0

    def serve(self) -> None:
        """Answer one request.

        Raises:
            EOFError: the process has closed its connection.
        """
        data, descriptors, _, _ = socket.recv_fds(self.connection, MAX_MESSAGE, 2)
        try:
            if not data:
                raise EOFError
            request = json.loads(data)
            if "end" in request:
                _end(self._running.pop(request["end"], None))
                answer: dict[str, object] = {}
            else:
                answer = self._add(request["arguments"], *descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self.connection.send(json.dumps(answer).encode())

    def close(self) -> None:
        """End its uplinks."""
        for process in self._running.values():
            _end(process)
        self.connection.close()
        os.close(self.pidfd)

    def _add(self, arguments: list[str], network: int, user: int) -> dict[str, object]:
        receive, ready = os.pipe()
        command = [
            *("slirp4netns", f"--ready-fd={ready}", "--netns-type=path", f"--userns-path=/proc/self/fd/{user}"),
            *arguments[:-1],
            f"/proc/self/fd/{network}",
            arguments[-1],
        ]
        if os.fstat(user).st_ino == os.stat("/proc/self/ns/user").st_ino:
            command.remove(f"--userns-path=/proc/self/fd/{user}")
        try:
            process = subprocess.Popen(
                command,
                pass_fds=[ready, network, user],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                preexec_fn=lambda: syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - one thread
            )
        except OSError as error:
            os.close(receive)
            return {"error": f"{command[0]}: {error.strerror}"}
        finally:
            os.close(ready)
        try:
            readable, _, _ = select.select([receive], [], [], _READY_TIMEOUT)
            if readable and os.read(receive, 1):
                self._number += 1
                self._running[self._number] = process
                return {"number": self._number}
        finally:
            os.close(receive)
        _end(process)
        assert process.stderr is not None
        message = process.stderr.read(_WORDS).decode(errors="replace").strip()
        return {"error": message or f"slirp4netns was not ready after {_READY_TIMEOUT:g} s"}


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.wait()


def main(path: str, owner: int) -> None:
    """Serve until the owner has ended.

    Args:
        path: the path of the socket to listen on, in a separate directory, which is removed at the end.
        owner: a pidfd of the process that started this one.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    clients: dict[int, Client] = {}
    poll = select.poll()
    for descriptor in (owner, listener.fileno()):
        poll.register(descriptor, select.POLLIN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if owner in ready:
            break
        if listener.fileno() in ready:
            with contextlib.suppress(OSError):  # the client has ended
                client = Client(listener.accept()[0])
                for descriptor in (client.connection.fileno(), client.pidfd):
                    clients[descriptor] = client
                    poll.register(descriptor, select.POLLIN)
        for client in {clients[descriptor] for descriptor in ready if descriptor in clients}:
            try:
                if client.pidfd in ready:
                    raise EOFError
                client.serve()
            except (OSError, EOFError):
                for descriptor in (client.connection.fileno(), client.pidfd):
                    del clients[descriptor]
                    poll.unregister(descriptor)
                client.close()
    for client in set(clients.values()):
        client.close()
    os.unlink(path)
    os.rmdir(os.path.dirname(path))


if __name__ == "__main__":
    if os.fork():  # the parent waits for its children; the agent must not be one
        os._exit(0)
    os.setsid()
    main(sys.argv[1], int(sys.argv[2]))
    os._exit(0)

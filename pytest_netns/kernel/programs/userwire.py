"""The user-space wire: ``python -I -S userwire.py FD`` forwards the frames of impaired links, delays or drops them.

Frames that an impaired interface is about to send are redirected into this process's namespace by an nftables rule
(kernel/netlink/redirect.py), and are sent by that interface when they are due. This process holds the netlink socket
that owns the rule: when it ends for any reason, the rule is removed and the link is no longer impaired.

Standard library only, and run outside of the package, see supervisor.py.

Protocol, over a SOCK_SEQPACKET pair: each request is a JSON object with a number ``n``, ``do``, and the ``id`` of one
direction of a link: the index of the interface, in this namespace, at which its frames arrive. The answer is an object with
the same number, and ``error`` if it failed.

=========  =====================================================================================================
add        forward frames; with two descriptors: a packet socket that sends them, the rule's owner; ``values``, ``seed``
change     use new ``values`` and ``seed``
remove     send delayed frames at once; ``rule`` and ``pair`` are netlink messages, in hexadecimal, that delete the
           rule and the hidden veth pair
drop       discard all directions whose ``ids`` are given: their namespaces are about to be deleted
=========  =====================================================================================================
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __name__ != "__main__":
    from pytest_netns.kernel.programs.impairing import Decisions
    from pytest_netns.kernel.programs.ring import Ring
else:
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from impairing import Decisions
    from ring import Ring

MAX_MESSAGE = 1 << 16
DESCRIPTORS = 2
_CLOSERS = 64  # threads
_NICENESS = -15
_AT_ONCE = 64  # frames to read before sending those that are due


class Direction:
    """One direction of a link: what one interface sends.

    Attributes:
        decisions: decides the fate of its frames.
        waiting: the number of delayed frames.
    """

    def __init__(self, send: socket.socket, owner: socket.socket, decisions: Decisions) -> None:
        self.decisions = decisions
        self.waiting = 0
        self._send = send
        self._owner = owner

    def send(self, frame: bytes) -> None:
        """Send a frame by the interface; if that is down or deleted the frame is lost."""
        with contextlib.suppress(OSError):
            self._send.send(frame, socket.MSG_DONTWAIT)

    def remove_rule(self, delete_rule: bytes) -> None:
        """Remove the rule that redirects frames here, by a netlink message."""
        self._owner.send(delete_rule)
        self._owner.recv(MAX_MESSAGE)

    def descriptors(self) -> list[int]:
        """Detach and return its descriptors."""
        return [self._send.detach(), self._owner.detach()]


class Wire:
    """All directions, and the delayed frames."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._ring = Ring()
        self._directions: dict[int, Direction] = {}
        self._heap: list[tuple[float, int, int, bytes]] = []  # time due, order, direction, frame
        self._order = 0
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._netlink_lock = threading.Lock()

    def serve(self) -> None:
        """Forward frames until pytest closes its socket."""
        while True:
            wait = max(self._heap[0][0] - time.monotonic(), 0) if self._heap else None
            ready, _, _ = select.select([self._control, self._ring.socket], [], [], wait)
            if self._ring.socket in ready:
                self._take()
            if self._control in ready and not self._answer():
                return
            self._send_due(time.monotonic())

    def _take(self) -> int:
        """Process frames that have arrived; returns how many."""
        frames = self._ring.frames(_AT_ONCE)
        now = time.monotonic()
        for number, age, frame in frames:
            direction = self._directions.get(number)
            if direction is None:  # it has just been removed
                continue
            decisions = direction.decisions
            for due, arriving in decisions.arrivals(now - age, frame, decisions.limit - direction.waiting):
                self._order += 1
                direction.waiting += 1
                heapq.heappush(self._heap, (due, self._order, number, arriving))
        return len(frames)

    def _send_due(self, now: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, _, number, frame = heapq.heappop(heap)
            direction = self._directions[number]
            direction.waiting -= 1
            direction.send(frame)

    # -- requests ----------------------------------------------------------------------------------

    def _answer(self) -> bool:
        """Handle a request of pytest; returns False if pytest has ended."""
        data, descriptors, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, DESCRIPTORS)
        if not data:
            return False
        request = json.loads(data)
        answer = {"n": request["n"]}
        try:
            getattr(self, f"_{request['do']}")(request, descriptors)
        except Exception as error:  # pytest reports it; the other links continue
            answer["error"] = f"{request['do']}: {type(error).__name__}: {error}"
        self._control.send(json.dumps(answer).encode())
        return True

    def _add(self, request: dict[str, Any], descriptors: list[int]) -> None:
        send, owner = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        self._directions[request["id"]] = Direction(send, owner, Decisions(request["seed"], **request["values"]))

    def _change(self, request: dict[str, Any], descriptors: list[int]) -> None:
        self._directions[request["id"]].decisions = Decisions(request["seed"], **request["values"])

    def _remove(self, request: dict[str, Any], descriptors: list[int]) -> None:
        number = request["id"]
        direction = self._directions[number]
        direction.remove_rule(bytes.fromhex(request["rule"]))
        direction.decisions = Decisions("", limit=sys.maxsize)
        while self._take():  # frames that arrived before the rule was removed
            pass
        for _, _, owner, frame in sorted(self._heap):
            if owner == number:
                direction.send(frame)
        self._forget({number})
        _in_background(self._discard, direction, bytes.fromhex(request["pair"]))

    def _drop(self, request: dict[str, Any], descriptors: list[int]) -> None:
        numbers = set(request["ids"]) & set(self._directions)
        descriptors = [fd for number in numbers for fd in self._directions[number].descriptors()]
        self._forget(numbers)
        for first in range(min(_CLOSERS, len(descriptors))):
            _in_background(_close_all, descriptors[first::_CLOSERS])

    def _forget(self, numbers: set[int]) -> None:
        """Remove directions and their frames."""
        self._heap = [item for item in self._heap if item[2] not in numbers]
        heapq.heapify(self._heap)
        for number in numbers:
            del self._directions[number]

    def _discard(self, direction: Direction, delete_pair: bytes) -> None:
        with self._netlink_lock:
            self._netlink.send(delete_pair)
            self._netlink.recv(MAX_MESSAGE)
        _close_all(direction.descriptors())


def _in_background(function: Callable[..., None], *arguments: object) -> None:
    """Run a function on another thread: some requests take the kernel 30 ms and more, which must not delay frames."""
    threading.Thread(target=function, args=arguments, daemon=True).start()


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def main(arguments: list[str]) -> None:
    """Argument: the descriptor of the control socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.suppress(OSError):  # allowed to root only: otherwise frames are late on a busy machine
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    with contextlib.suppress(OSError), open("/proc/self/timerslack_ns", "w", encoding="utf-8") as slack:
        slack.write("1")  # wake up when a frame is due, not up to 50 us later
    with socket.socket(fileno=int(arguments[0])) as control:
        Wire(control).serve()


if __name__ == "__main__":
    main(sys.argv[1:])

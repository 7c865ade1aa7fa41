"""A synchronous netlink socket: one per namespace, several messages in one send.

No event loop (a loop may be running in the test) and no fork. A socket always belongs to the namespace it was opened in,
regardless of the thread that uses it later.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from pytest_netns.errors import KernelError, LabClosedError, UnavailableError
from pytest_netns.kernel.netlink import unsupported, wire
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.system import sockets

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
_SO_RCVBUFFORCE = 33
_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 1, 10, 11
_RECEIVE_SIZE = 1 << 15  # the kernel sends no larger datagrams, netlink_recvmsg() of Linux
_ANSWER_SIZE = 1 << 13  # an acknowledgement, or an error with the kernel's message
_BATCH_BYTES = 1 << 16  # the kernel processes a send at once; stay under the default send buffer (208 KiB)
_BATCH_REQUESTS = 128  # so that an error for each fits into the default receive buffer (208 KiB)
_ALWAYS_FIT = 16  # up to so many requests always fit into one send
_DUMP_TRIES = 10
_CLOSE_TIMEOUT = 1.0  # seconds to wait for a thread that is reading an answer; the kernel answers at once

T = TypeVar("T")


class NetlinkSocket:
    """A netlink socket of the namespace the calling thread is in.

    Args:
        namespace: the namespace's name, for errors.
        protocol: one of the NETLINK_ constants.
        groups: multicast groups to join.
    """

    def __init__(self, namespace: str, protocol: int = NETLINK_ROUTE, groups: Sequence[int] = ()) -> None:
        self.namespace = namespace
        self._lock = threading.Lock()
        self._sequence = 0
        try:
            self._open(protocol, groups)
        except OSError as error:
            raise KernelError("open netlink socket", error.errno or errno.EIO, namespace=namespace) from error

    def _open(self, protocol: int, groups: Sequence[int]) -> None:
        self._socket = sockets.Socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            if groups:
                self._socket.bind((0, 0))  # an unbound socket receives no notifications
            for group in groups:
                self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The descriptor, for polling."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket once no thread waits for an answer; idempotent."""
        acquired = self._lock.acquire(timeout=_CLOSE_TIMEOUT)
        try:
            self._socket.close()
        finally:
            if acquired:
                self._lock.release()

    def enlarge_buffer(self, size: int) -> None:
        """Set the receive buffer to a size in bytes, or the largest the kernel allows."""
        with contextlib.suppress(OSError):  # a container may not allow it: rmem_default applies
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)

    def request(self, *requests: Request) -> None:
        """Send all requests to the kernel, in order.

        Raises:
            KernelError: the first request that was refused; later ones were sent as well.
            UnavailableError: likewise, if the kernel lacks the kind of interface or IPv6.
        """
        with self._lock:
            if len(requests) <= _ALWAYS_FIT:
                failures = self._send_batch(requests)
            else:
                failures = [failure for batch in self._batches(requests) for failure in self._send_batch(batch)]
        if failures:
            raise failures[0]

    def transaction(self, begin: Request, requests: Sequence[Request], end: Request) -> None:
        """Have netfilter apply all requests as one transaction, or none of them.

        Raises:
            KernelError: the first request that was refused; nothing was done.
        """
        with self._lock:
            first = self._sequence + 1
            self._sequence += len(requests) + 2
            parts = [wire.message(begin.type, begin.flags, first, begin.body)]
            parts += [
                wire.message(each.type, each.flags, first + n, each.body) for n, each in enumerate(requests[:-1], 1)
            ]
            # Only the last is acknowledged; errors always are, and before that.
            last = first + len(requests)
            parts.append(wire.message(requests[-1].type, requests[-1].flags | wire.NLM_F_ACK, last, requests[-1].body))
            parts.append(wire.message(end.type, end.flags, self._sequence, end.body))
            self._send(b"".join(parts), begin)
            while True:
                for reply in self._replies(first):
                    code, message = wire.read_error(reply.body, reply.flags)
                    if code:  # later answers are discarded by the next request
                        refused = requests[max(reply.sequence - first - 1, 0)]
                        raise self._error(refused, code, message)
                    if reply.sequence == last:
                        return

    def get(self, request: Request, parse: Callable[[bytes], T]) -> T:
        """Read one object and parse it."""
        with self._lock:
            self._sequence += 1
            self._send(wire.message(request.type, request.flags, self._sequence, request.body), request)
            while True:
                data = self._receive(_RECEIVE_SIZE)
                body = wire.body_of(data, self._sequence)
                if body is not None:
                    return parse(body)
                for reply in self._answers(data, self._sequence):
                    if reply.type == wire.NLMSG_ERROR:
                        raise self._error(request, *wire.read_error(reply.body, reply.flags))
                    return parse(reply.body)

    def get_after(self, change: Request, requests: Sequence[Request], parse: Callable[[bytes], T]) -> list[T | None]:
        """Send a change, then read several objects, all as one datagram; None for each object that was refused.

        Raises:
            KernelError: the change was refused.
        """
        with self._lock:
            first = self._sequence + 1
            sent = (change, *requests)
            self._sequence += len(sent)
            self._send(
                b"".join([wire.message(each.type, each.flags, first + n, each.body) for n, each in enumerate(sent)]),
                change,
            )
            found: list[T | None] = []
            while len(found) < len(requests):
                data = self._receive(_RECEIVE_SIZE)
                body = wire.body_of(data, first + 1 + len(found))
                if body is not None:
                    found.append(parse(body))
                    continue
                for reply in self._answers(data, first):
                    if reply.sequence == first:  # an error, as no acknowledgement was asked for
                        raise self._error(change, *wire.read_error(reply.body, reply.flags))
                    found.append(None if reply.type == wire.NLMSG_ERROR else parse(reply.body))
            return found

    def dump(self, request: Request, parse: Callable[[bytes], T | None]) -> list[T]:
        """Read all objects of a kind and parse them; those for which parse returns None are omitted."""
        with self._lock:
            replies = self._dump_once(request)
            for _ in range(_DUMP_TRIES):
                # NLM_F_DUMP_INTR: the table changed while it was read, so the answer may be inconsistent.
                if not any(reply.flags & wire.NLM_F_DUMP_INTR for reply in replies):
                    break
                replies = self._dump_once(request)
        parsed = (parse(reply.body) for reply in replies)
        return [item for item in parsed if item is not None]

    def notifications(self) -> Iterator[wire.Message]:
        """Yield the pending notifications of the multicast groups, without waiting.

        Raises:
            OSError: ENOBUFS if the kernel had to drop some.
        """
        while True:
            try:
                data = self._socket.recv(_RECEIVE_SIZE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            yield from wire.messages(data)

    def has_notifications(self) -> bool:
        """Whether notifications have arrived since the last call; they are discarded."""
        received = False
        while True:
            try:
                self._socket.recv(1, socket.MSG_DONTWAIT)  # one byte; recv discards the rest of the datagram
            except BlockingIOError:
                return received
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # ENOBUFS: the kernel had to drop some
                    return True
            received = True

    @staticmethod
    def _batches(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
        batch: list[Request] = []
        size = 0
        for request in requests:
            size += len(request.body) + 32
            if batch and (size > _BATCH_BYTES or len(batch) == _BATCH_REQUESTS):
                yield batch
                batch, size = [], len(request.body) + 32
            batch.append(request)
        if batch:
            yield batch

    def _send_batch(self, batch: Sequence[Request]) -> list[KernelError | UnavailableError]:
        """Send several requests as one datagram; only the last is acknowledged, errors always are."""
        first = self._sequence + 1
        last = self._sequence = self._sequence + len(batch)
        parts = [wire.message(each.type, each.flags, first + n, each.body) for n, each in enumerate(batch[:-1])]
        parts.append(wire.message(batch[-1].type, batch[-1].flags | wire.NLM_F_ACK, last, batch[-1].body))
        self._send(b"".join(parts), batch[0])
        failures: list[KernelError | UnavailableError] = []
        while True:
            data = self._receive(_ANSWER_SIZE)
            if wire.acknowledges(data, last):
                return failures
            for reply in wire.messages(data):
                if reply.type == wire.NLMSG_ERROR and reply.sequence >= first:
                    code, message = wire.read_error(reply.body, reply.flags)
                    if code:
                        failures.append(self._error(batch[reply.sequence - first], code, message))
                    if reply.sequence == last:
                        return failures

    def _dump_once(self, request: Request) -> list[wire.Message]:
        self._sequence += 1
        flags = request.flags | wire.NLM_F_DUMP
        self._send(wire.message(request.type, flags, self._sequence, request.body), request)
        collected: list[wire.Message] = []
        while True:
            for reply in self._replies(self._sequence):
                if reply.type == wire.NLMSG_ERROR:
                    raise self._error(request, *wire.read_error(reply.body, reply.flags))
                if reply.type == wire.NLMSG_DONE:
                    return collected
                collected.append(reply)

    def _send(self, data: bytes, request: Request) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            if self._socket.fileno() < 0:
                raise LabClosedError(self.namespace) from None
            raise self._refusal(request, error.errno or errno.EIO) from error

    def _replies(self, first: int) -> Iterator[wire.Message]:
        """Receive one datagram; yield its messages that answer requests from this sequence number on."""
        return self._answers(self._receive(_RECEIVE_SIZE), first)

    @staticmethod
    def _answers(data: bytes, first: int) -> Iterator[wire.Message]:
        return (reply for reply in wire.messages(data) if reply.sequence >= first)

    def _receive(self, size: int) -> bytes:
        try:
            return self._socket.recv(size)
        except OSError as error:
            raise KernelError("read the kernel's answer", error.errno or errno.EIO, namespace=self.namespace) from error

    def _error(self, request: Request, code: int, message: str) -> KernelError | UnavailableError:
        missing = unsupported.find(request, code, message)
        if missing is not None:
            return missing
        return self._refusal(request, code, message)

    def _refusal(self, request: Request, code: int, message: str = "") -> KernelError:
        return KernelError(
            request.action,
            code,
            namespace=self.namespace,
            kernel_message=message,
            creates_interface=request.creates_interface,
        )

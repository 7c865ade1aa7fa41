"""The methods of Lab that start services together, and wait for conditions."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pytest_netns.lab.link_methods import LinkMethods
from pytest_netns.lab.namespace import Namespace
from pytest_netns.running.process import Command
from pytest_netns.running.programs import LabPrograms
from pytest_netns.running.readiness import NOT_YET, Ready, RetryOn

if TYPE_CHECKING:
    from pytest_netns.running.service import Service

T = TypeVar("T")


class ServiceMethods(LinkMethods):
    """The part of `Lab` for services in several namespaces; takes the arguments of `LinkMethods`.

    Attributes:
        programs: everything that runs in its namespaces.
    """

    __slots__ = ("_lock", "programs")

    def __init__(self, owner: str, engine: str) -> None:
        super().__init__(owner, engine)
        self._lock = threading.RLock()
        self.programs = LabPrograms(self._lock, self._begin_fault)

    def start_all(
        self,
        commands: Mapping[Namespace, Command],
        *,
        ready: Ready | None = None,
        timeout: float = 10,
        **options: Any,
    ) -> dict[Namespace, Service]:
        """Start a service in each of several namespaces, then wait until all are ready.

        For clusters whose members are only ready together::

            members = lab.start_all({each: ["etcd", "--name", each.name] for each in lab}, ready=2379)

        Args:
            commands: the command to run in each namespace.
            ready: the condition that makes each of them ready, as for `Namespace.start`.
            timeout: seconds, for all together.
            options: options of `subprocess.Popen`, for each.

        Returns:
            The services, by namespace.

        Raises:
            NotReadyError: one exited first, or was not ready in time; the others have been stopped.
        """
        from pytest_netns.running import service

        for namespace in commands:
            self.check_member(namespace)
        pairs = [(namespace.programs, command) for namespace, command in commands.items()]
        started = service.start_all(pairs, ready=ready, timeout=timeout, options=options)
        return dict(zip(commands, started, strict=True))

    def wait_until(self, condition: Callable[[], T | None], timeout: float = 5, *, retry_on: RetryOn = NOT_YET) -> T:
        """Poll a condition until it is true; returns its result::

            lab.wait_until(lambda: "lease" in server.output)
            lab.wait_until(lambda: red.run("curl -sf http://blue/"))

        Args:
            condition: called without arguments.
            timeout: seconds.
            retry_on: one or several exceptions after which to poll again; default: a command that fails or times out,
                and the errors of sockets. Other exceptions are raised.

        Raises:
            NotReadyError: it was not true in time; shows its last result, or the failed command with its output.
            NetnsError: an event loop runs in this thread and would be blocked; see `wait_until_async`.
        """
        from pytest_netns.running import waiting

        return waiting.until(self.programs.records, condition, timeout, retry_on)

    @overload
    async def wait_until_async(
        self, condition: Callable[[], Awaitable[T | None]], timeout: float = 5, *, retry_on: RetryOn = NOT_YET
    ) -> T: ...

    @overload
    async def wait_until_async(
        self, condition: Callable[[], T | None], timeout: float = 5, *, retry_on: RetryOn = NOT_YET
    ) -> T: ...

    async def wait_until_async(
        self,
        condition: Callable[[], T | Awaitable[T | None] | None],
        timeout: float = 5,
        *,
        retry_on: RetryOn = NOT_YET,
    ) -> T:
        """Like `wait_until`, for asyncio: the event loop keeps running between polls.

        Args:
            condition: a function, or a coroutine function, which is awaited.
            timeout: seconds.
            retry_on: as for `wait_until`.
        """
        from pytest_netns.running import waiting

        return await waiting.until_async(self.programs.records, condition, timeout, retry_on)

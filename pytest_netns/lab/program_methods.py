"""The methods of Namespace that run programs and Python functions in it."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from pytest_netns.running import process, readiness
from pytest_netns.running.process import Command, Process
from pytest_netns.running.programs import Programs
from pytest_netns.running.readiness import Ready

if TYPE_CHECKING:
    import asyncio

    import pexpect

    from pytest_netns.running.service import Service

T = TypeVar("T")


class ProgramMethods:
    """The part of `Namespace` that runs programs and Python functions.

    Attributes:
        programs: everything that runs in the namespace.
    """

    __slots__ = ()

    programs: Programs

    @overload
    def run(
        self,
        command: Command,
        *,
        input: str | None = None,
        timeout: float | None = None,
        check: bool = True,
        capture_output: bool = True,
        report: bool = False,
        text: Literal[True] = True,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]: ...

    @overload
    def run(
        self,
        command: Command,
        *,
        input: str | bytes | None = None,
        timeout: float | None = None,
        check: bool = True,
        capture_output: bool = True,
        report: bool = False,
        **options: Any,
    ) -> subprocess.CompletedProcess[Any]: ...

    def run(
        self,
        command: Command,
        *,
        input: str | bytes | None = None,
        timeout: float | None = None,
        check: bool = True,
        capture_output: bool = True,
        report: bool = False,
        **options: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """Run a program here and wait for its exit, like `subprocess.run`.

        Args:
            command: argv; a string is split by `shlex` and never reaches a shell, except with ``shell=True``.
            input: its stdin.
            timeout: seconds after which it is killed.
            check: raise an error if its exit status is not 0.
            report: show its output in the report of the test if the test fails.
            capture_output: keep its output in ``stdout`` and ``stderr`` of the result: as text, with ``\\xff`` for bytes
                that are not UTF-8, or as bytes with ``text=False``.
            options: options of `subprocess.Popen`: ``env``, ``cwd``, ``text`` (default True), ``shell``, ``user`` (with that
                user's groups, unless ``group`` and ``extra_groups`` are given) ...

        Raises:
            CommandError: it failed; shows its output.
            CommandTimeout: it did not exit in time.
        """
        return process.run(
            self.programs,
            command,
            input=input,
            timeout=timeout,
            check=check,
            capture_output=capture_output,
            report=report,
            options=options,
        )

    def popen(self, command: Command, *, pty: bool = False, **options: Any) -> Process:
        """Start a program here, like `subprocess.Popen`; it ends with the lab at the latest.

        Args:
            command: as in `run`.
            pty: run it in a pseudo-terminal, so that prompts, passwords and job control work; the other end is
                ``process.terminal``, an unbuffered binary file. See `spawn` for a conversation.
            options: options of `subprocess.Popen`.
        """
        if not pty:
            return process.spawn(self.programs, command, make=Process, **options)
        from pytest_netns.running import terminal

        return terminal.popen(self.programs, command, **options)

    def spawn(self, command: Command, args: Sequence[str] = (), **options: Any) -> pexpect.spawn[Any]:
        """Start a program here and control its terminal: returns a `pexpect.spawn`; requires pexpect::

            child = red.spawn("ssh blue", encoding="utf-8")
            child.expect("password:")
            child.sendline("secret")

        Args:
            command: as in `run`.
            args: further arguments.
            options: options of `pexpect.spawn`: ``timeout``, ``encoding`` (bytes without one), ``echo``, ``env``, ``cwd``, ``dimensions``, ``logfile`` ...

        Raises:
            UnavailableError: pexpect is not installed.
        """
        from pytest_netns.running import terminal

        return terminal.pexpect_spawn(self.programs, command, args, options)

    def start(self, command: Command, *, ready: Ready | None = None, timeout: float = 10, **options: Any) -> Service:
        """Start a service here and wait until it is ready.

        Args:
            command: as in `run`.
            ready: what to wait for; None for nothing; for a list, all of its items:

                - a port (``80``, ``"tcp/80"``, ``"udp/53"``) that the service itself must listen on;
                - a path (a `Path`, or a string that starts with ``/``), as programs here see it: a unix socket on which a
                  process listens, or a file that is created or replaced;
                - a compiled pattern that its output must match;
                - a function that must return a true value; if a command in it fails, it is called again.
            timeout: seconds to wait.
            options: options of `subprocess.Popen`, except those for output.

        Raises:
            NotReadyError: it exited first, or was not ready in time; shows its output.
        """
        from pytest_netns.running import service

        return service.start(self.programs, command, ready=ready, timeout=timeout, options=options)

    def wait_listening(self, port: int, protocol: str = "tcp", timeout: float = 5) -> None:
        """Wait until a socket in this namespace listens on a port, on any address, IPv4 or IPv6.

        Raises:
            NotReadyError: none did within ``timeout`` seconds.
        """
        readiness.wait_listening(self.programs, port, protocol, timeout)

    @overload
    def call(
        self,
        function: Callable[..., Coroutine[Any, Any, T]],
        /,
        *args: Any,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> T: ...

    @overload
    def call(self, function: Callable[..., T], /, *args: Any, timeout: float | None = None, **kwargs: Any) -> T: ...

    def call(self, function: Callable[..., Any], /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Run a Python function in this namespace, on a separate thread; returns its result.

        Host names resolve as in the namespace. A coroutine function gets its own event loop there. Context variables are
        the caller's.

        Args:
            function: called with ``args`` and ``kwargs``; its exceptions are raised here.
            timeout: seconds to wait for it. To pass ``timeout`` to the function itself, use `functools.partial`.

        Raises:
            CallTimeout: it did not return in time; shows its current stack. A thread cannot be killed: it may keep running.
        """
        from pytest_netns.running import calls

        return calls.call(self.programs, *_bound(function, args, kwargs), timeout)

    @overload
    async def call_async(
        self,
        function: Callable[..., Coroutine[Any, Any, T]],
        /,
        *args: Any,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> T: ...

    @overload
    async def call_async(
        self, function: Callable[..., T], /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> T: ...

    async def call_async(
        self, function: Callable[..., Any], /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Any:
        """Like `call`, for asyncio: the awaiting event loop keeps running.

        A coroutine function gets its own event loop in the namespace, so all its tasks, threads and lookups are inside.
        If this await is cancelled, so is the coroutine.
        """
        from pytest_netns.running import calls

        return await calls.call_async(self.programs, *_bound(function, args, kwargs), timeout)

    async def create_subprocess_exec(
        self, program: str | os.PathLike[str], *args: str | os.PathLike[str], limit: int = 2**16, **options: Any
    ) -> asyncio.subprocess.Process:
        """Start a program here, like `asyncio.create_subprocess_exec`; it ends with the lab at the latest.

        Args:
            program, args: its argv.
            limit: the buffer size of stdout and stderr, in bytes.
            options: options of `asyncio.create_subprocess_exec`: ``stdin``, ``stdout``, ``stderr``, ``env``, ``cwd`` ...
        """
        from pytest_netns.running import async_process

        return await async_process.create(self.programs, (program, *args), limit, options)


def _bound(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[[], Any], str]:
    """A function with its arguments, and its name."""
    return functools.partial(function, *args, **kwargs), str(getattr(function, "__qualname__", function))

"""asyncio subprocesses in a namespace: started like other programs, with their pipes and exit handled by the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio import base_subprocess
from asyncio.subprocess import Process as AsyncioProcess
from asyncio.subprocess import SubprocessStreamProtocol
from typing import TYPE_CHECKING, Any

from pytest_netns.running import process

if TYPE_CHECKING:
    from pytest_netns.running.programs import Programs


class _LoopProcess(process.Process):
    """A program whose pipes belong to the event loop."""

    def close_streams(self) -> None:
        """Does nothing: the event loop closes them."""

    def forget(self) -> None:
        """Remove it from the namespace's processes, once it has been reaped."""
        with contextlib.suppress(ValueError):
            self.programs.processes.remove(self)


class _Transport(base_subprocess.BaseSubprocessTransport):
    """asyncio's own transport, except for how the program is started and how its exit is detected."""

    _loop: asyncio.AbstractEventLoop

    def _start(
        self, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **options: Any
    ) -> None:
        programs = options.pop("programs")
        options |= {"stdin": stdin, "stdout": stdout, "stderr": stderr, "bufsize": bufsize, "text": False}
        started = process.spawn(programs, args, shell=shell, make=_LoopProcess, **options)
        self._proc = started
        pidfd = os.pidfd_open(started.pid)
        self._loop.add_reader(pidfd, self._on_end, started, pidfd)

    def _on_end(self, ended: _LoopProcess, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        self._process_exited(ended.wait())
        ended.forget()


async def create(programs: Programs, argv: tuple[Any, ...], limit: int, options: dict[str, Any]) -> AsyncioProcess:
    """Start a program; see `Namespace.create_subprocess_exec`."""
    loop = asyncio.get_running_loop()
    protocol = SubprocessStreamProtocol(limit=limit, loop=loop)
    stdin, stdout, stderr = (options.pop(name, None) for name in ("stdin", "stdout", "stderr"))
    ready = loop.create_future()
    transport = _Transport(loop, protocol, argv, False, stdin, stdout, stderr, 0, ready, programs=programs, **options)
    try:
        await ready
    except BaseException:
        transport.close()
        raise
    return AsyncioProcess(transport, protocol, loop)

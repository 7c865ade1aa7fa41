"""Programs in a namespace for asyncio: started as all others are, their pipes and their end handled by the event loop."""

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
    from pytest_netns.lab.namespace import Namespace


class _LoopProcess(process.Process):
    """A program whose pipes belong to the event loop."""

    def _reads(self, stream: object) -> bool:
        return True


class _Transport(base_subprocess.BaseSubprocessTransport):
    """asyncio's own transport, except for how the program is started and how its end is noticed."""

    _loop: asyncio.AbstractEventLoop

    def _start(
        self, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **options: Any
    ) -> None:
        namespace = options.pop("namespace")
        options |= {"stdin": stdin, "stdout": stdout, "stderr": stderr, "bufsize": bufsize, "text": False}
        started = process.spawn(namespace, args, shell=shell, process_class=_LoopProcess, **options)
        self._proc = started
        pidfd = os.pidfd_open(started.pid)
        self._loop.add_reader(pidfd, self._on_end, started, pidfd)

    def _on_end(self, ended: process.Process, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        os.close(pidfd)
        self._process_exited(ended.wait())
        with contextlib.suppress(ValueError):
            ended.namespace._processes.remove(ended)


async def create(namespace: Namespace, argv: tuple[Any, ...], limit: int, options: dict[str, Any]) -> AsyncioProcess:
    """Start a program; see `Namespace.create_subprocess_exec`."""
    loop = asyncio.get_running_loop()
    protocol = SubprocessStreamProtocol(limit=limit, loop=loop)
    stdin, stdout, stderr = (options.pop(name, None) for name in ("stdin", "stdout", "stderr"))
    ready = loop.create_future()
    transport = _Transport(loop, protocol, argv, False, stdin, stdout, stderr, 0, ready, namespace=namespace, **options)
    try:
        await ready
    except BaseException:
        transport.close()
        raise
    return AsyncioProcess(transport, protocol, loop)

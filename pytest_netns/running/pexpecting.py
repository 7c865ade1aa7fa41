"""A pexpect.spawn subclass with a different way to start the program and detect its exit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pexpect
import ptyprocess

from pytest_netns.running import terminal

if TYPE_CHECKING:
    from pytest_netns.running.programs import Programs

    _Spawn = pexpect.spawn[Any]  # bytes or str, depending on the option "encoding"
else:
    _Spawn = pexpect.spawn


class _PtyProcess(ptyprocess.PtyProcess):  # type: ignore[misc]
    """The process as seen by pexpect; it is reaped only by the `Process` object."""

    def __init__(self, process: terminal.TerminalProcess) -> None:
        super().__init__(process.pid, os.dup(process.terminal.fileno()))
        self._process = process
        self.exitstatus: int | None = None
        self.signalstatus: int | None = None

    def wait(self) -> Any:
        self._note_end(self._process.wait())
        return self.exitstatus

    def isalive(self) -> bool:
        status = self._process.poll()
        if status is not None:
            self._note_end(status)
        return status is None

    def _note_end(self, status: int) -> None:
        self.terminated = True
        self.exitstatus = status if status >= 0 else None
        self.signalstatus = None if status >= 0 else -status


class Spawn(_Spawn):
    """A `pexpect.spawn` whose program runs in a namespace, and ends with its lab."""

    def __init__(self, programs: Programs, command: str, args: list[str], options: dict[str, Any]) -> None:
        self._programs = programs
        super().__init__(command, args, **options)

    def _spawnpty(self, args: list[str], **options: Any) -> _PtyProcess:
        if options.pop("preexec_fn", None) is not None:
            raise ValueError("preexec_fn cannot be used: the program is started by another thread")
        size = options.pop("dimensions", None) or terminal.SIZE
        return _PtyProcess(terminal.popen(self._programs, args, size=size, **options))

"""Programs on a pseudo-terminal: prompts, passwords and job control work as in an interactive session."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import shutil
import signal
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_netns.errors import InvalidTopologyError, UnavailableError
from pytest_netns.running.process import Command, Process, parse_command, spawn

if TYPE_CHECKING:
    import pexpect

    from pytest_netns.running.programs import Programs

SIZE = (24, 80)  # rows and columns


class TerminalProcess(Process):
    """A program on a pseudo-terminal, whose controlling side is `terminal`.

    Attributes:
        terminal: the terminal's output and input, an unbuffered binary file; reading raises `OSError` (EIO) once no process
            has the terminal open.
    """

    def __init__(self, programs: Programs, command: Command, *, terminal: int, **options: Any) -> None:
        self.terminal = open(terminal, "r+b", buffering=0, closefd=True)  # noqa: SIM115 - closed with the process
        super().__init__(programs, command, **options)

    def lab_closes(self) -> None:
        """Send SIGHUP: shells ignore SIGTERM, but end when their terminal is closed."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGHUP)

    def close_streams(self) -> None:
        self.terminal.close()
        super().close_streams()

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self.terminal.close()


def popen(
    programs: Programs, command: Command, *, size: tuple[int, int] = SIZE, echo: bool = True, **options: Any
) -> TerminalProcess:
    """Start a program on a pseudo-terminal, which is the controlling terminal of its session."""
    taken = {"stdin", "stdout", "stderr", "start_new_session", "process_group"} & options.keys()
    if taken:
        raise InvalidTopologyError(
            f"cannot use {', '.join(sorted(taken))} together with pty: the terminal is all of them"
        )
    argv = _with_terminal(programs, parse_command(command, options.get("shell", False)), options)
    near, far = os.openpty()
    try:
        _set_up(far, size, echo)

        def make(*arguments: Any, **keywords: Any) -> TerminalProcess:
            return TerminalProcess(*arguments, terminal=near, **keywords)

        return spawn(programs, argv, make=make, stdin=far, stdout=far, stderr=far, text=False, **options)
    except BaseException:
        with contextlib.suppress(OSError):  # the process has closed it
            os.close(near)
        raise
    finally:
        os.close(far)


def _with_terminal(programs: Programs, command: Command, options: dict[str, Any]) -> list[str]:
    """The argv with setsid(1), which starts a session with the controlling terminal and then executes the program."""
    if options.pop("shell", False):
        command = ["/bin/sh", "-c", *_words(command)]
    argv = _words(command)
    path = (options.get("env") or os.environ).get("PATH")
    program = argv[0]
    if (
        programs.spawner().run(lambda: shutil.which(program, path=path)) is None
    ):  # otherwise only setsid would report it
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    return ["setsid", "--ctty", "--", *argv]


def _words(command: Command) -> list[str]:
    words = [command] if isinstance(command, str | os.PathLike) else command
    return [os.fspath(word) for word in words]


def _set_up(far: int, size: tuple[int, int], echo: bool) -> None:
    import fcntl  # missing on Windows, on which suites for several systems import this module too
    import termios

    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    if not echo:
        attributes = termios.tcgetattr(far)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(far, termios.TCSANOW, attributes)


def pexpect_spawn(
    programs: Programs, command: Command, args: Sequence[str], options: dict[str, Any]
) -> pexpect.spawn[Any]:
    """A `pexpect.spawn` whose program runs in a namespace; see `Namespace.spawn`."""
    try:
        importlib.import_module("pexpect")
    except ImportError:
        raise UnavailableError(
            "ns.spawn", "the Python package pexpect is not installed", "pip install pexpect"
        ) from None
    from pytest_netns.running import pexpecting

    first, *others = [*_words(parse_command(command, shell=False)), *args]
    return pexpecting.Spawn(programs, first, others, options)

"""Programs in a namespace: run and popen."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pytest_netns.errors import (
    CommandError,
    CommandTimeout,
    InvalidTopologyError,
    LabClosedError,
    NetnsError,
    UnavailableError,
    fails_as,
    show_argv,
)
from pytest_netns.kernel.programs import inits
from pytest_netns.kernel.programs.view import current_directory
from pytest_netns.kernel.system import privileges
from pytest_netns.kernel.system.waiting import Deadline, Endtime
from pytest_netns.running import hints

if TYPE_CHECKING:
    from pytest_netns.running.programs import Programs

    class _Popen(subprocess.Popen[Any]):
        """With the methods that are overridden here, which typeshed leaves out."""

        def _wait(self, timeout: float | None) -> int: ...
        def _communicate(self, input: Any, endtime: float | None, orig_timeout: float | None) -> tuple[Any, Any]: ...
else:
    _Popen = subprocess.Popen

Command: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
E = TypeVar("E", bound=NetnsError)
P = TypeVar("P", bound="Process")

STOP_GRACE = 2.0  # seconds between SIGTERM and SIGKILL in Process.stop
_SYSTEM_PATH = (
    "/usr/local/sbin:/usr/sbin:/sbin"  # directories of servers, missing from an ordinary user's PATH on Debian
)


class Process(_Popen):
    """A program running in a namespace: a `subprocess.Popen` that ends with the lab at the latest.

    Attributes:
        programs: everything that runs in its namespace.
        pid: its PID as seen from the test; inside it has another one.
    """

    def __init__(self, programs: Programs, command: Command, **options: Any) -> None:
        self.programs = programs
        super().__init__(command, **options)
        self._made = True

    def __setattr__(self, name: str, value: object) -> None:
        # `subprocess.Popen` sets some attributes later; any other name is a mistake, which would silently have no effect.
        if "_made" in self.__dict__ and name[0] != "_" and not hasattr(self, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        object.__setattr__(self, name, value)

    @property
    def namespace(self) -> Any:
        """The `Namespace` it runs in."""
        return self.programs.owner

    def stop(self, timeout: float = STOP_GRACE) -> int:
        """End it with SIGTERM, or with SIGKILL after ``timeout`` seconds; returns its exit status."""
        if self.poll() is None:
            self.terminate()
            if not self.has_ended(timeout):
                self.kill()
        return self.wait()

    # Overridden for `wait` and `communicate`: their timeouts also work if a test freezes Python's clocks.

    def _wait(self, timeout: float | None) -> int:
        if timeout is not None and not self.has_ended(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout)
        return super()._wait(None)

    def _communicate(self, input: Any, endtime: float | None, orig_timeout: float | None) -> tuple[Any, Any]:
        if orig_timeout is not None:
            endtime = Endtime()
            endtime.deadline = Deadline(orig_timeout)
        return super()._communicate(input, endtime, orig_timeout)

    def has_ended(self, timeout: float) -> bool:
        """Whether it ends within a timeout in seconds, even if a test freezes Python's clocks."""
        if self.poll() is not None:
            return True
        with contextlib.suppress(ProcessLookupError):  # another thread is reaping it
            pidfd = os.pidfd_open(self.pid)
            try:
                if not inits.wait_ended(pidfd, timeout):
                    return False
            finally:
                os.close(pidfd)
        super()._wait(None)  # poll() returns None while another thread is reaping it
        return True

    def lab_closes(self) -> None:
        """Called before it is ended because its lab is closed or its namespace crashes."""

    def close_streams(self) -> None:
        """Called once it has been reaped at the end of its lab."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {show_argv(self.args)} in {self.programs.name}, PID {self.pid}>"


class _Awaited(Process):
    """A program that `run` waits for."""

    def close_streams(self) -> None:
        """Does nothing: `run` closes them, on its own thread, which may be reading."""


def parse_command(command: Command, shell: bool) -> Command:
    """Parse argv; a string is split like a shell would, but passed to one only on request."""
    if shell or not isinstance(command, str | os.PathLike):
        if not command:
            raise InvalidTopologyError(f"cannot run {command!r}: the command is empty")
        return command
    argv = shlex.split(os.fspath(command)) if isinstance(command, str) else [os.fspath(command)]
    if not argv:
        raise InvalidTopologyError(f"cannot run {command!r}: the command is empty")
    return argv


@fails_as("start program")
def spawn(
    programs: Programs,
    command: Command,
    *,
    shell: bool = False,
    text: bool = True,
    cwd: str | os.PathLike[str] | None = None,
    make: Callable[..., P],
    **options: Any,
) -> P:
    """Start a program in a namespace; the options are those of `subprocess.Popen`."""
    argv = parse_command(command, shell)
    if "universal_newlines" not in options and "encoding" not in options and "errors" not in options:
        options["text"] = text
    if options.get("user") is not None:
        _add_groups(options)
    if cwd is None:
        cwd = current_directory()  # entering a mount namespace moved the starting thread to /

    def start() -> P:
        process = make(programs, argv, shell=shell, cwd=cwd, **options)
        programs.processes.append(process)
        return process

    try:
        with programs.in_use():
            return programs.spawner().run(start)
    except FileNotFoundError as error:
        _note_place(error)
        raise


def _note_place(error: FileNotFoundError) -> None:
    """Add the program's path to an error if it is in a directory that is not in this user's PATH."""
    import shutil

    name = os.fsdecode(error.filename or "")
    place = None if os.path.dirname(name) else shutil.which(name, path=_SYSTEM_PATH)
    if place is not None:
        directory = os.path.dirname(place)
        error.add_note(f"it is {place}, which is not in PATH: export PATH=$PATH:{directory}")


def _add_groups(options: dict[str, Any]) -> None:
    """Give a program that runs as another user that user's groups, not root's, unless groups are given."""
    import pwd  # not available on other systems, on which suites are collected too

    user = options["user"]
    try:
        entry = pwd.getpwnam(user) if isinstance(user, str) else pwd.getpwuid(user)
    except KeyError:  # an unknown uid; for an unknown name subprocess raises an error
        entry = None
    if not privileges.has_other_users():
        if (user if entry is None else entry.pw_uid) != os.geteuid():
            raise UnavailableError(
                "other users",
                f"this process may not become another user, or its user namespace has no other, so no program can run as {user!r}",
                "pytest-netns doctor lists what rootless mode needs for that; or run pytest as root",
            )
        return
    if entry is None:
        return
    options.setdefault("group", entry.pw_gid)
    options.setdefault("extra_groups", os.getgrouplist(entry.pw_name, entry.pw_gid))


@fails_as("run program")
def run(
    programs: Programs,
    command: Command,
    *,
    input: str | bytes | None,
    timeout: float | None,
    check: bool,
    capture_output: bool,
    report: bool,
    options: dict[str, Any],
) -> subprocess.CompletedProcess[Any]:
    """Run a program in a namespace to its end; see `Namespace.run`."""
    if input is not None:
        if options.get("stdin") is not None:
            raise InvalidTopologyError("cannot use stdin together with input: give one of them")
        options["stdin"] = subprocess.PIPE
        options.setdefault("text", isinstance(input, str))
    if options.get("text", True) and not {"universal_newlines", "encoding", "errors"} & options.keys():
        options["errors"] = "backslashreplace"  # otherwise a decoding error would replace the failure
    if capture_output:
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
    process = spawn(programs, command, make=_Awaited, **options)
    try:
        stdout, stderr = process.communicate(input, timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = _rest_of_output(process)
        timed_out = CommandTimeout(process.args, timeout or 0, stdout, stderr, namespace=programs.name)
        programs.lab.records.add_failure(timed_out)
        raise note_refused(timed_out, programs) from None
    except BaseException:  # including KeyboardInterrupt: like subprocess.run, never leave it running
        process.kill()
        process.wait()
        raise
    finally:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if process.returncode is not None:
            programs.processes.remove(process)
    status = process.wait()
    if report:
        programs.lab.records.add_output(programs.name, process.args, stdout, stderr)
    if status and programs.lab.gate.is_shut:  # the program was ended by that
        raise LabClosedError(programs.name)
    view = programs.view
    if status == -signal.SIGKILL and view is not None and view.init.is_ending():
        raise view.init_dead()
    if check and status:
        failed = CommandError(status, process.args, stdout, stderr, namespace=programs.name)
        programs.lab.records.add_failure(failed)
        if hint := hints.find(stderr):
            failed.add_note(hint)
        raise note_refused(failed, programs)
    return subprocess.CompletedProcess(process.args, status, stdout, stderr)


def note_refused(error: E, programs: Programs) -> E:
    """Add to an error the parts that the environment refused programs in this namespace: they may be the reason."""
    if refused := programs.refused_parts():
        parts = "; ".join(map(str, refused))
        error.add_note(f"programs here run without {parts}: pytest-netns doctor shows how to fix it")
    return error


def _rest_of_output(process: Process) -> tuple[Any, Any]:
    """The output of a killed program; waits only briefly, as its child may hold the pipe open."""
    try:
        return process.communicate(timeout=0.5)
    except subprocess.TimeoutExpired as error:
        process.wait()
        return error.stdout, error.stderr


def kill_all(processes: Sequence[Process]) -> None:
    """Kill processes and reap them without opening a file: the limit on open files may be reached."""
    deadline = Deadline(STOP_GRACE)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        while process.poll() is None and not deadline.is_over():
            deadline.pause()
        process.close_streams()


def end_all(processes: Sequence[Process], errors: list[Exception]) -> None:
    """Reap processes that have been killed."""
    for process in processes:
        if not process.has_ended(STOP_GRACE):
            errors.append(NetnsError(f"cannot end {process!r}: it has not ended after SIGKILL"))
        process.close_streams()

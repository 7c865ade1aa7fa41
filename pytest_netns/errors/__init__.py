"""Every error the plugin raises.

Messages read ``cannot ACTION: CAUSE``, followed by the remedy if one is known.
Where there is one, an error is also the built-in exception a caller would expect (`OSError`, `ValueError`,
`subprocess.CalledProcessError` ...), so code that does not know this plugin can catch it.
"""

from __future__ import annotations

import errno as errno_codes
import functools
import os
import subprocess
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from pytest_netns.errors.showing import encodable, indent, show_argv, show_output, show_status

__all__ = [
    "CallTimeout",
    "CommandError",
    "CommandTimeout",
    "InvalidTopologyError",
    "KernelError",
    "LabClosedError",
    "NetnsError",
    "NotReadyError",
    "RulesetError",
    "UnavailableError",
    "encodable",
    "fails_as",
    "show_argv",
    "show_output",
    "show_status",
]

P = ParamSpec("P")
T = TypeVar("T")


class NetnsError(Exception):
    """Base of all errors of this plugin: its text can always be written as UTF-8, and it can be pickled."""

    def __str__(self) -> str:
        return encodable(self._text())

    def _text(self) -> str:
        return super().__str__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args), self.__dict__


def _restore(kind: type[NetnsError], args: tuple[Any, ...]) -> NetnsError:
    """Restore a pickled error without calling its constructor, which may take other arguments."""
    error = kind.__new__(kind)
    if isinstance(error, OSError):
        OSError.__init__(error, *args)  # sets errno
    error.args = args
    return error


class LabClosedError(NetnsError):
    """The lab is closed, possibly by another thread during this call.

    Attributes:
        namespace: the name of the namespace that was used; empty for the lab itself.
    """

    def __init__(self, namespace: str = "") -> None:
        self.namespace = namespace
        what = (
            f"namespace {namespace!r}: its lab is closed, or it was removed" if namespace else "this lab: it is closed"
        )
        super().__init__(f"cannot use {what}; use it while the lab is open, or create a new one")


class InvalidTopologyError(NetnsError, ValueError):
    """A name, address, port, key or value that cannot be part of a network; names the valid ones.

    Attributes:
        problems: every mistake found, one sentence each; for a single value, the message itself.
    """

    def __init__(self, message: str, *, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems) or (message,)
        super().__init__(message)


class UnavailableError(NetnsError):
    """This machine cannot do it.

    Attributes:
        feature: what is not available, such as ``"network namespaces"``.
        remedy: the command or setting that fixes it; empty if none is known.
    """

    def __init__(self, feature: str, cause: str, remedy: str = "") -> None:
        self.feature = feature
        self.cause = cause
        self.remedy = remedy
        super().__init__(f"cannot use {feature}: {cause}" + (f"\n  remedy: {remedy}" if remedy else ""))

    def short(self) -> str:
        """The cause in one line."""
        return f"cannot use {self.feature}: {self.cause}".splitlines()[0]


class KernelError(NetnsError, OSError):
    """The kernel refused.

    Attributes:
        action: what was requested, such as ``"add bridge v-net-0"``.
        namespace: the name of the namespace; empty outside of one.
        kernel_message: the kernel's message (netlink extended acknowledgement); may be empty.
        creates_interface: whether the request was to create an interface, so that it does not exist.
        errno: the error number, as in `OSError`.
    """

    def __init__(
        self,
        action: str,
        errno: int,
        *,
        namespace: str = "",
        kernel_message: str = "",
        remedy: str = "",
        creates_interface: bool = False,
    ) -> None:
        self.action = action
        self.creates_interface = creates_interface
        self.namespace = namespace
        if errno == errno_codes.EMFILE and not remedy:
            kernel_message, remedy = _explain_open_files()
        self.kernel_message = kernel_message
        self.remedy = remedy
        super().__init__(errno, os.strerror(errno))

    def _text(self) -> str:
        where = f" in namespace {self.namespace!r}" if self.namespace else ""
        code = errno_codes.errorcode.get(self.errno or 0, str(self.errno))
        cause = (
            f"{self.kernel_message} ({self.strerror}, {code})" if self.kernel_message else f"{self.strerror} ({code})"
        )
        return f"cannot {self.action}{where}: {cause}" + (f"\n  remedy: {self.remedy}" if self.remedy else "")


class RulesetError(NetnsError):
    """nft refused a ruleset.

    Attributes:
        ruleset: the text given to nft.
        nft_message: nft's message, with line and column.
        namespace: the name of the namespace.
    """

    def __init__(self, ruleset: str, nft_message: str, *, namespace: str) -> None:
        self.ruleset = ruleset
        self.nft_message = nft_message
        self.namespace = namespace
        super().__init__(
            f"cannot apply nft ruleset in namespace {namespace!r}: {nft_message.strip()}\n  ruleset was:\n{indent(ruleset.strip())}"
        )


class CommandError(NetnsError, subprocess.CalledProcessError):
    """A command in a namespace ended with a status other than 0.

    Attributes: those of `subprocess.CalledProcessError`, and ``namespace``.
    """

    def __init__(
        self,
        returncode: int,
        cmd: Any,
        stdout: str | bytes | None,
        stderr: str | bytes | None,
        *,
        namespace: str,
    ) -> None:
        self.namespace = namespace
        subprocess.CalledProcessError.__init__(self, returncode, cmd, stdout, stderr)

    def _text(self) -> str:
        ended = show_status(self.returncode)
        return f"cannot complete command in namespace {self.namespace!r}: {show_argv(self.cmd)}: {ended}" + show_output(
            self.stdout, self.stderr
        )


class CommandTimeout(NetnsError, subprocess.TimeoutExpired):
    """A command in a namespace did not end in time; it was killed.

    Attributes: those of `subprocess.TimeoutExpired`, and ``namespace``.
    """

    stdout: str | bytes | None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]  # text unless asked for bytes, other than with subprocess
    stderr: str | bytes | None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        cmd: Any,
        timeout: float,
        stdout: str | bytes | None,
        stderr: str | bytes | None,
        *,
        namespace: str,
    ) -> None:
        self.namespace = namespace
        subprocess.TimeoutExpired.__init__(self, cmd, timeout, stdout, stderr)

    def _text(self) -> str:
        return (
            f"cannot complete command in namespace {self.namespace!r} within {self.timeout:g} s: {show_argv(self.cmd)}: killed"
            + show_output(self.stdout, self.stderr)
        )


class CallTimeout(NetnsError, TimeoutError):
    """Python code in a namespace did not return in time; it still runs, since a thread cannot be killed.

    Attributes:
        stack: its stack, formatted as a traceback.
        namespace: the name of the namespace.
    """

    def __init__(self, function: str, timeout: float, stack: str, *, namespace: str) -> None:
        self.stack = stack
        self.namespace = namespace
        super().__init__(
            f"cannot complete call of {function} in namespace {namespace!r} within {timeout:g} s: it is at\n{stack}"
        )


class NotReadyError(NetnsError, TimeoutError):
    """A service or a port was not ready in time, or the service ended before it was.

    Attributes:
        output: the service's output so far (text); empty for a port.
    """

    def __init__(self, message: str, *, output: str = "") -> None:
        self.output = output
        super().__init__(message + show_output(output, None))


def fails_as(action: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Raise a plain `OSError` of a function as `KernelError` with this action (decorator).

    Our own errors are unchanged, as are Python's errors about a program or file of the user.

    Args:
        action: such as ``"add veth pair"``; the namespace's name is taken from the function's first argument.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def named(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except OSError as error:
                file = "" if error.filename is None else os.fsdecode(error.filename)
                is_users = file and not file.startswith("/proc/") and error.errno != errno_codes.EMFILE
                if isinstance(error, NetnsError) or not error.errno or is_users:
                    raise
                namespace = getattr(args[0], "name", "") if args else ""
                raise KernelError(action, error.errno, namespace=namespace, kernel_message=file) from error

        return named

    return decorate


def _explain_open_files() -> tuple[str, str]:
    """The cause of EMFILE in this process, and how to fix it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    cause = f"this process has reached its limit of {soft} open files, RLIMIT_NOFILE"
    return cause, f"ulimit -n {hard}" if hard > soft else f"ulimit -n {soft * 4}, as root"

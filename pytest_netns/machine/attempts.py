"""Try operations that cannot be undone in a forked child, which reports the failed step."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
from collections.abc import Callable, Generator

from pytest_netns.errors import KernelError, UnavailableError
from pytest_netns.kernel.system import forking

_MAX_ANSWER = 1 << 16


class StepError(Exception):
    """A step of an attempt failed.

    Attributes:
        step: a name that `diagnosis` knows, such as ``"uid_map"``.
        errno: the error number; 0 if it was no kernel error.
        message: a further message of the kernel or a program; may be empty.
        remedy: how to fix it, if known to the step; may be empty.
    """

    def __init__(self, step: str, number: int, message: str = "", remedy: str = "") -> None:
        self.step = step
        self.errno = number
        self.message = message
        self.remedy = remedy
        super().__init__(step, number, message, remedy)


@contextlib.contextmanager
def step(name: str) -> Generator[None]:
    """Raise errors of the block as `StepError` of this step."""
    try:
        yield
    except StepError:
        raise
    except KernelError as error:
        raise StepError(name, error.errno or 0, error.kernel_message, error.remedy) from error
    except OSError as error:
        raise StepError(name, error.errno or 0) from error
    except UnavailableError as error:
        raise StepError(name, 0, error.cause, error.remedy) from error
    except Exception as error:
        raise StepError(name, 0, f"{type(error).__name__}: {error}") from error


def try_in_child(attempt: Callable[[], None]) -> StepError | None:
    """Run an attempt in a forked child; returns the failed step, None on success."""
    receive, send = os.pipe()
    pid = forking.fork()
    if pid == 0:
        status = 1
        try:
            os.close(receive)
            os.write(send, json.dumps(_outcome(attempt)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(send)
    with open(receive, "rb") as pipe:
        answer = pipe.read(_MAX_ANSWER)
    _, status = os.waitpid(pid, 0)
    if not answer:
        number = os.waitstatus_to_exitcode(status)
        how = f"killed by {signal.Signals(-number).name}" if number < 0 else f"ended with status {number}"
        return StepError("attempt", errno.EIO, f"the process that tried it was {how}")
    fields = json.loads(answer)
    return StepError(*fields) if fields else None


def _outcome(attempt: Callable[[], None]) -> list[str | int]:
    try:
        with step("attempt"):
            attempt()
    except StepError as error:
        return [error.step, error.errno, error.message, error.remedy]
    return []

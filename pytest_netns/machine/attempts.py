"""Trying things that cannot be undone: in a forked child, which says what step failed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
from collections.abc import Callable, Iterator

from pytest_netns.errors import KernelError, UnavailableError
from pytest_netns.kernel.system import forking

_MAX_ANSWER = 1 << 16


class StepError(Exception):
    """A step on the way failed.

    Attributes:
        step: a name that `diagnosis` knows, such as ``"uid_map"``.
        errno: the error number; 0 where it was no error of the kernel.
        words: what the kernel or a program said beyond the number; may be empty.
        remedy: what mends it, where the one who failed knows; may be empty.
    """

    def __init__(self, step: str, number: int, words: str = "", remedy: str = "") -> None:
        self.step = step
        self.errno = number
        self.words = words
        self.remedy = remedy
        super().__init__(step, number, words, remedy)


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """What fails in the block fails as this step."""
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
    """Run an attempt in a forked child; returns the step that failed there, None where all went well."""
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
        return [error.step, error.errno, error.words, error.remedy]
    return []

"""Python code in a namespace, on a thread of its own: the network and the names are the namespace's."""

from __future__ import annotations

import inspect
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_netns.errors import CallTimeout, NetnsError

if TYPE_CHECKING:
    from pytest_netns.namespace import Namespace

CLOSE_GRACE = 0.5  # seconds calls still running get when their lab is closed


class Call:
    """A call that is under way, or has ended."""

    def __init__(self, namespace: Namespace, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.namespace = namespace
        self._function = function
        self._args = args
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"netns-call-{namespace.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the outcome; None as timeout waits for ever."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise CallTimeout(self.show(), timeout or 0, self.stack(), namespace=self.namespace.name)
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback refers to this frame
        return self._result

    def has_ended(self, timeout: float) -> bool:
        """Whether it ends within so many seconds."""
        self._thread.join(max(timeout, 0))
        return not self._thread.is_alive()

    def show(self) -> str:
        """The function's name."""
        return str(getattr(self._function, "__qualname__", self._function))

    def stack(self) -> str:
        """Where it is now, as a traceback shows it."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def _run(self) -> None:
        try:
            self.namespace._spawner().enter_for_python()
            if inspect.iscoroutinefunction(self._function):
                import asyncio

                self._result = asyncio.run(self._function(*self._args))
            else:
                self._result = self._function(*self._args)
        except BaseException as error:
            self._error = error


def call(namespace: Namespace, function: Callable[..., Any], args: tuple[Any, ...], timeout: float | None) -> Any:
    """Run a function in a namespace and wait for its result; see `Namespace.call`."""
    namespace._lab._note_entered(namespace)
    namespace._spawner()  # what prevents it is raised here, in the caller
    running = Call(namespace, function, args)
    namespace._calls.append(running)
    running.start()
    try:
        return running.result(timeout)
    finally:
        if running.has_ended(0):
            namespace._calls.remove(running)


def end_all(running: list[Call], deadline: float, errors: list[Exception]) -> None:
    """Report the calls that have not ended when their lab is closed; a thread cannot be killed."""
    for unfinished in running:
        if not unfinished.has_ended(deadline - time.monotonic()):
            errors.append(
                NetnsError(
                    f"cannot end call of {unfinished.show()} in namespace {unfinished.namespace.name!r}: "
                    f"it still runs, and keeps the namespace alive; it is at\n{unfinished.stack()}"
                )
            )

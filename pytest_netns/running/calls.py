"""Python code in a namespace, on its own thread: with the namespace's network and name resolution."""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_netns.errors import CallTimeout, NetnsError
from pytest_netns.kernel.system import threads
from pytest_netns.kernel.system.waiting import Deadline
from pytest_netns.running import libraries

if TYPE_CHECKING:
    import asyncio

    from pytest_netns.kernel.programs.view import View
    from pytest_netns.running.programs import Programs

CLOSE_GRACE = 0.5  # seconds for a cancelled coroutine to end


class Call:
    """A running or finished call; it has the caller's context variables.

    Args:
        programs: everything that runs in its namespace.
        view: the mount view it runs in.
        function: what to call, its arguments included.
        name: the function's name.
    """

    def __init__(self, programs: Programs, view: View, function: Callable[[], Any], name: str) -> None:
        self.programs = programs
        self._view = view
        self.name = name
        self._function = function
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._has_begun = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._on_end: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._run, name=f"netns-call-{programs.name}", daemon=True)

    def start(self, on_end: Callable[[], object] | None = None) -> None:
        """Start the call; `on_end` is called on its thread when the outcome is known."""
        self._on_end = on_end
        threads.start(self._thread, f"call {self.name} in namespace {self.programs.name!r}")

    def cancel(self) -> bool:
        """Cancel it if it is a coroutine or has not begun; returns whether that was possible."""
        with self._lock:
            self._is_cancelled = True
            if self._loop is None or self._task is None:
                return not self._has_begun
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._task.cancel)
            return True

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the outcome; with timeout None, wait forever."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise self.late(timeout)
        return self.outcome()

    def late(self, timeout: float | None) -> CallTimeout:
        """The error for a timeout, with the current stack."""
        return CallTimeout(self.name, timeout or 0, self.stack(), namespace=self.programs.name)

    def outcome(self) -> Any:
        """The result of a call that has ended, or its error raised."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback refers to this frame
        return self._result

    def has_ended(self, timeout: float) -> bool:
        """Whether it ends within a timeout in seconds."""
        self._thread.join(max(timeout, 0))
        return not self._thread.is_alive()

    def stack(self) -> str:
        """Its current stack, formatted as a traceback."""
        task = self._task
        coroutine = None if task is None else task.get_coro()
        if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED:
            frames = traceback.StackSummary.extract(_awaiting(coroutine))
        else:
            frames = traceback.extract_stack(sys._current_frames().get(self._thread.ident or 0))  # pyright: ignore[reportPrivateUsage]
        own_frames = [number for number, frame in enumerate(frames) if frame.filename == __file__]
        return "".join(traceback.format_list(frames[own_frames[-1] + 1 if own_frames else 0 :]))

    def _run(self) -> None:
        try:
            with self.programs.in_use():
                self._view.enter_for_python()
            self._result = self._context.run(self._call)
        except BaseException as error:
            self._error = error
        self.programs.note_started()
        if self._on_end is not None:
            self._on_end()

    def _call(self) -> Any:
        with self._lock:
            if self._is_cancelled:
                return None  # its caller no longer waits
            # Calling a coroutine function does not begin its coroutine.
            self._has_begun = not inspect.iscoroutinefunction(self._function)
        result = self._function()
        if not inspect.iscoroutine(result):
            return result
        self._has_begun = False
        import asyncio

        return asyncio.run(self._run_coroutine(result))

    async def _run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        import asyncio

        with self._lock:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            if self._is_cancelled and self._task is not None:
                self._task.cancel()
        return await coroutine


def _awaiting(coroutine: Any) -> Iterator[tuple[FrameType, int]]:
    """The frames of a coroutine and of what it awaits, outermost first."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            return
        yield frame, frame.f_lineno
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def _start(
    programs: Programs,
    function: Callable[[], Any],
    name: str,
    on_end: Callable[[], object] | None = None,
) -> Call:
    with programs.in_use():
        programs.note_entered()
        libraries.adopt()
        running = Call(programs, programs.spawner(), function, name)
        programs.calls.append(running)
        try:
            running.start(on_end)
        except BaseException:
            programs.calls.remove(running)
            raise
        return running


def call(programs: Programs, function: Callable[[], Any], name: str, timeout: float | None) -> Any:
    """Run a function in a namespace and wait for its result; see `Namespace.call`."""
    running = _start(programs, function, name)
    try:
        return running.result(timeout)
    except BaseException:
        running.cancel()
        raise
    finally:
        if running.has_ended(0):
            programs.calls.remove(running)


async def call_async(programs: Programs, function: Callable[[], Any], name: str, timeout: float | None) -> Any:
    """Run a function in a namespace and await its result; see `Namespace.call_async`."""
    import asyncio

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def on_end() -> None:
        with contextlib.suppress(RuntimeError):  # the awaiting loop has been closed
            loop.call_soon_threadsafe(ended.set)

    running = _start(programs, function, name, on_end)
    try:
        await asyncio.wait_for(ended.wait(), timeout)
    except TimeoutError:
        raise running.late(timeout) from None
    finally:
        if not ended.is_set() and running.cancel():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), CLOSE_GRACE)
        if ended.is_set():
            programs.calls.remove(running)
    return running.outcome()


def end_all(running: list[Call], deadline: Deadline, errors: list[Exception]) -> None:
    """Cancel coroutines, and report calls that still run when their lab is closed; a thread cannot be killed."""
    stacks = [(unfinished, unfinished.stack()) for unfinished in running if not unfinished.has_ended(0)]
    for unfinished, _ in stacks:
        unfinished.cancel()
    for unfinished, stack in stacks:
        if not unfinished.has_ended(deadline.remaining()):
            errors.append(
                NetnsError(
                    f"cannot end call of {unfinished.name} in namespace {unfinished.programs.name!r}: "
                    f"it still runs, and keeps the namespace alive; it is at\n{stack}"
                )
            )

"""Detect a task that awaits inside `with namespace`: the thread would run other tasks in the wrong network.

Each watch calls back as soon as its task yields to the event loop, and cancels what the task awaits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio


class Watch(Protocol):
    """Watches one task for the duration of one block."""

    def cancel(self) -> None:
        """Cancel what the task awaits, so that it leaves its block."""

    def stop(self, error: BaseException | None) -> None:
        """The block has ended, with an error or without."""


def watch(on_await: Callable[[], None]) -> Watch | None:
    """Watch the task that the calling thread is running, if there is one."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no loop runs in this thread
            pass
        else:
            task = asyncio.current_task(loop)
            return None if task is None else _AsyncioWatch(task, loop, on_await)
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            return _TrioWatch(trio, on_await)
        except RuntimeError:  # not in a trio task
            return None
    return None


class _AsyncioWatch:
    """The loop runs a callback only if the task yields before its block ends.

    Other loops, such as uvloop, run it after the tasks that are already ready: there a profile function detects that
    the task yields, unless a profiler is active.
    """

    def __init__(self, task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop, on_await: Callable[[], None]) -> None:
        self._task = task
        self._on_await: Callable[[], None] | None = on_await
        self._cancelled = False
        self._frame: FrameType | None = None
        loop.call_soon(self._check)
        ready = getattr(loop, "_ready", None)
        if ready is not None:  # asyncio's own loop: before all other tasks, so that none of them runs inside
            ready.rotate(1)
        elif sys.getprofile() is None:
            self._frame = getattr(task.get_coro(), "cr_frame", None)
            if self._frame is not None:
                sys.setprofile(self._profile)

    def cancel(self) -> None:
        self._cancelled = True
        self._task.cancel("awaited inside `with namespace`")

    def stop(self, error: BaseException | None) -> None:
        self._on_await = None
        self._stop_profiling()
        if self._cancelled:
            self._task.uncancel()

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        """The profile function: the outermost frame of a task returns to the event loop at each await that waits."""
        if event == "return" and frame is self._frame:
            self._stop_profiling()
            self._check()

    def _stop_profiling(self) -> None:
        if self._frame is not None:
            self._frame = None
            sys.setprofile(None)

    def _check(self) -> None:
        if self._on_await is not None:
            self._on_await()


class _TrioWatch:
    """An instrument, which trio calls after each step of each task."""

    def __init__(self, trio: Any, on_await: Callable[[], None]) -> None:
        self._task = trio.lowlevel.current_task()
        self._on_await = on_await
        self._remove = trio.lowlevel.remove_instrument
        self._scope = trio.CancelScope()
        self._scope.__enter__()
        trio.lowlevel.add_instrument(self)

    def after_task_step(self, task: Any) -> None:
        if task is self._task and not self._scope.cancel_called:
            self._on_await()

    def cancel(self) -> None:
        self._scope.cancel()

    def stop(self, error: BaseException | None) -> None:
        self._remove(self)
        self._scope.__exit__(type(error) if error is not None else None, error, None)

"""Wait until a test's condition is true, polling it until a timeout."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from pytest_netns.errors import CommandError, CommandTimeout, NetnsError, NotReadyError
from pytest_netns.kernel.system.waiting import Deadline, sleep
from pytest_netns.running.readiness import NOT_YET, RetryOn, check_is_function, check_is_result

if TYPE_CHECKING:
    from pytest_netns.running.records import Records

T = TypeVar("T")

_INSTEAD = "write `await lab.wait_until_async(...)`"


class _Polling:
    """The polling of a condition.

    Args:
        records: the failed commands for the report.
        retry_on: exceptions the condition may raise while it is not yet true.
    """

    def __init__(self, records: Records, timeout: float, retry_on: RetryOn) -> None:
        self.retry_on = retry_on
        self._records = records
        self._timeout = timeout
        self._deadline = Deadline(timeout)

    def not_yet(self, result: object, failure: BaseException | None) -> float:
        """Handle a result that is not true; returns the seconds to wait before the next poll.

        Raises:
            NotReadyError: the timeout is over.
        """
        if self._deadline.is_over():
            last = f"it returned {result!r}" if failure is None else _show(failure)
            text = f"cannot continue: the condition is not true after {self._timeout:g} s: {last}"
            raise NotReadyError(text) from failure
        if isinstance(failure, CommandError | CommandTimeout):
            self._records.withdraw_failure(failure)
        return self._deadline.next_pause()


def _show(failure: BaseException) -> str:
    return str(failure) if isinstance(failure, NetnsError) else f"it raised {failure!r}"


def until(records: Records, condition: Callable[[], T | None], timeout: float, retry_on: RetryOn = NOT_YET) -> T:
    """Wait until a condition is true and return its result; see `Lab.wait_until`."""
    check_is_function(condition, _INSTEAD)
    if _loop_is_running():
        raise NetnsError(f"cannot wait in a running event loop, which would be blocked: {_INSTEAD}")
    polling = _Polling(records, timeout, retry_on)
    while True:
        result: T | None = None
        failure = None
        try:
            result = condition()
        except polling.retry_on as error:
            failure = error
        check_is_result(result, condition, _INSTEAD)
        if result:
            return result
        sleep(polling.not_yet(result, failure))


async def until_async(
    records: Records,
    condition: Callable[[], T | Awaitable[T | None] | None],
    timeout: float,
    retry_on: RetryOn = NOT_YET,
) -> T:
    """The same for a running event loop; see `Lab.wait_until_async`."""
    import asyncio

    polling = _Polling(records, timeout, retry_on)
    while True:
        found: T | None = None
        failure = None
        try:
            result = condition()
            found = await result if inspect.isawaitable(result) else result
        except polling.retry_on as error:
            failure = error
        if found:
            return found
        await asyncio.sleep(polling.not_yet(found, failure))


def _loop_is_running() -> bool:
    if "asyncio" not in sys.modules:
        return False
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

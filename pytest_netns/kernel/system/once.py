"""Objects of which each process has one: created on first use, and forgotten in a forked child."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from pytest_netns.kernel.system import forking

T = TypeVar("T")


class PerProcess(Generic[T]):
    """An object of which each process has one. Made at the top of a module: it lasts as long as the process.

    Args:
        make: makes the object, on first use, in the thread that uses it.
        close: ends the object, when the process exits at the latest.
        abandon: in a forked child: closes what belongs to the parent; `close` if left out.
        is_alive: whether the object still works: one that does not is replaced when it is next used. If left out, it always works.
        dismiss: ends what is left of an object that no longer works; `close` if left out.

    Attributes:
        current: the object; None if there is none.
        lock: held while the object is made, replaced or ended; reentrant, and another one in a forked child.
    """

    def __init__(
        self,
        make: Callable[[], T],
        *,
        close: Callable[[T], None],
        abandon: Callable[[T], None] | None = None,
        is_alive: Callable[[T], bool] | None = None,
        dismiss: Callable[[T], None] | None = None,
    ) -> None:
        self.current: T | None = None
        self.lock = threading.RLock()
        self._make = make
        self._close = close
        self._abandon = abandon or close
        self._is_alive = is_alive
        self._dismiss = dismiss or close
        forking.in_child(self._after_fork_in_child)

    def get(self) -> T:
        """The object; created if there is none that works."""
        current = self.current
        if current is not None and self._is_alive is None:  # at each new namespace
            return current
        with self.lock:
            if self.current is not None and self._is_alive is not None and not self._is_alive(self.current):
                self._end(self._dismiss)
            if self.current is None:
                self.current = self._make()
                atexit.register(self.close)
            return self.current

    def close(self) -> None:
        """End the object, if there is one; the next use creates another."""
        with self.lock:
            self._end(self._close)

    def _end(self, how: Callable[[T], None]) -> None:
        if self.current is not None:
            how(self.current)
            self.current = None
            atexit.unregister(self.close)

    def _after_fork_in_child(self) -> None:
        self.lock = threading.RLock()  # another thread of the parent may have held the old one
        current, self.current = self.current, None
        if current is not None:
            self._abandon(current)

"""Guard the use of a lab against closing by another thread: users that entered are waited for, later ones are refused."""

from __future__ import annotations

import os
import threading

from pytest_netns.kernel.system import interrupts

_TIMEOUT = 5.0  # seconds; uses take milliseconds, but one stuck in the kernel must not block closing


class Gate:
    """A gate that is open until it is shut; a thread that is inside may enter again even then."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may close a lab
        self._left: threading.Condition | None = None  # set while a thread waits until all others have left
        self._inside: dict[int, int] = {}  # by thread
        self._shut = False
        self._owner = os.getpid()

    @property
    def is_shut(self) -> bool:
        """Whether no other thread may enter."""
        return self._shut

    @interrupts.uninterrupted
    def enter(self) -> bool:
        """Enter; returns False if the gate is shut."""
        thread = threading.get_ident()
        with self._lock:
            if self._shut and thread not in self._inside:
                return False
            self._inside[thread] = self._inside.get(thread, 0) + 1
            return True

    @interrupts.uninterrupted
    def leave(self) -> None:
        """Leave."""
        thread = threading.get_ident()
        with self._lock:
            self._inside[thread] -= 1
            if not self._inside[thread]:
                del self._inside[thread]
            if self._left is not None:
                self._left.notify_all()

    @interrupts.uninterrupted
    def shut(self) -> None:
        """Refuse further threads, and wait until all other threads have left."""
        with self._lock:
            self._shut = True
            this_thread = {threading.get_ident()}
            if self._inside.keys() <= this_thread or os.getpid() != self._owner:
                return  # a forked copy does not have the other threads
            self._left = threading.Condition(self._lock)
            self._left.wait_for(lambda: self._inside.keys() <= this_thread, _TIMEOUT)

"""Who uses a lab while another thread closes it: either is let in before, and waited for, or is told that it is closed."""

from __future__ import annotations

import os
import threading

from pytest_netns.kernel.system import interrupts

_PATIENCE = 5.0  # seconds; a use takes milliseconds, but one stuck in the kernel must not keep a lab from being closed


class Gate:
    """Open until it is shut; a thread that is inside may come in again, even then."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a signal handler may close a lab
        self._changed = threading.Condition(self._lock)
        self._inside: dict[int, int] = {}  # by thread
        self._shut = False
        self._owner = os.getpid()

    @property
    def is_shut(self) -> bool:
        """Whether nobody is let in any more."""
        return self._shut

    @interrupts.uninterrupted
    def enter(self) -> bool:
        """Come in; False where it is shut."""
        thread = threading.get_ident()
        with self._lock:
            if self._shut and thread not in self._inside:
                return False
            self._inside[thread] = self._inside.get(thread, 0) + 1
            return True

    @interrupts.uninterrupted
    def leave(self) -> None:
        """Go out."""
        thread = threading.get_ident()
        with self._lock:
            self._inside[thread] -= 1
            if not self._inside[thread]:
                del self._inside[thread]
            if self._shut:
                self._changed.notify_all()

    @interrupts.uninterrupted
    def shut(self) -> None:
        """Let nobody in any more, and wait until all other threads have left."""
        with self._changed:
            self._shut = True
            if os.getpid() != self._owner:
                return  # a forked copy has none of the other threads
            own = {threading.get_ident()}
            self._changed.wait_for(lambda: self._inside.keys() <= own, _PATIENCE)

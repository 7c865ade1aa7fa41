"""Starting threads on machines that may refuse one more."""

from __future__ import annotations

import threading

from pytest_netns.errors import NetnsError

_REMEDY = "raise the limit on processes and threads: ulimit -u NUMBER; in a container: --pids-limit NUMBER"


def start(thread: threading.Thread, action: str) -> None:
    """Start a thread.

    Args:
        thread: not started yet.
        action: what it is for, to follow "cannot" in the error.

    Raises:
        NetnsError: this user or this container has as many threads as it may have, pthread_create(3).
    """
    try:
        thread.start()
    except RuntimeError as error:  # "can't start new thread"
        raise NetnsError(f"cannot {action}: no thread can be started ({error}); {_REMEDY}") from error

"""Start threads, with a clear error if the machine refuses."""

from __future__ import annotations

import threading

from pytest_netns.errors import NetnsError

_REMEDY = "raise the limit on processes and threads: ulimit -u NUMBER; in a container: --pids-limit NUMBER"


def start(thread: threading.Thread, action: str) -> None:
    """Start a thread.

    Args:
        thread: a thread that has not been started.
        action: its purpose, which follows "cannot" in the error.

    Raises:
        NetnsError: the limit on threads of this user or container is reached, pthread_create(3).
    """
    try:
        thread.start()
    except RuntimeError as error:  # "can't start new thread"
        raise NetnsError(f"cannot {action}: no thread can be started ({error}); {_REMEDY}") from error

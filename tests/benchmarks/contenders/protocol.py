"""The protocol of every contender written in Python, see kernel.c."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def arguments() -> tuple[str, int]:
    """The topology and its size."""
    return sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0


def serve(up: Callable[[], object], down: Callable[[], object]) -> None:
    """Take a step for each line of stdin, and answer with its time in seconds."""
    out = sys.stdout
    sys.stdout = sys.stderr  # the libraries' output is not an answer
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        step = up if line == "up\n" else down
        start = time.perf_counter()
        step()
        print(f"{time.perf_counter() - start:.9f}", file=out, flush=True)

"""Read a service's output on a thread, and keep the end of it."""

from __future__ import annotations

import codecs
import collections
import contextlib
import io
import os
import threading
from typing import IO

from pytest_netns.kernel.system import threads

_CHUNK = 1 << 13
OUTPUT_LIMIT = 1 << 20  # the number of most recent characters to keep
_REST = 0.2  # seconds to wait for the last output; short, as a child may hold the pipe open


class Output:
    """Reads a pipe to its end, then closes it."""

    def __init__(self) -> None:
        self._chunks: collections.deque[str] = collections.deque()
        self._size = 0
        self._reader: threading.Thread | None = None

    def begin(self, stream: IO[bytes]) -> None:
        """Start reading.

        Raises:
            NetnsError: no thread can be started.
        """
        reader = threading.Thread(target=self._read, args=(stream,), name="netns-output", daemon=True)
        threads.start(reader, "read the output of a service")
        self._reader = reader

    @property
    def text(self) -> str:
        """What has been read so far."""
        return "".join(self._chunks.copy())

    def wait_for_rest(self) -> None:
        """Wait for output that has been written but not read."""
        if self._reader is not None and self._reader.is_alive():
            self._reader.join(_REST)

    def _read(self, stream: IO[bytes]) -> None:
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
        with contextlib.suppress(ValueError, OSError), stream:
            while chunk := os.read(stream.fileno(), _CHUNK):  # not by lines: a prompt does not end in one
                text = decoder.decode(chunk)
                self._chunks.append(text)
                self._size += len(text)
                while self._size > OUTPUT_LIMIT:
                    self._size -= len(self._chunks.popleft())

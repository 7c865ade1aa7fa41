"""One message to the kernel, and what it is for; pure."""

from __future__ import annotations

from typing import NamedTuple


class Request(NamedTuple):
    """One message to send, and what it is for.

    Attributes:
        words: complete "cannot ..." in the error, such as ``("add bridge", "v-net-0")``; written out only if there is one.
    """

    words: tuple[object, ...]
    type: int
    body: bytes
    flags: int = 0

    @property
    def action(self) -> str:
        """The words, written out."""
        return " ".join(map(str, self.words))

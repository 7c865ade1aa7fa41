"""One netlink request and its description for error messages; pure."""

from __future__ import annotations

from typing import NamedTuple


class Request(NamedTuple):
    """One netlink request and its description.

    Attributes:
        description: completes "cannot ..." in an error, such as ``("add bridge", "v-net-0")``; joined only if an error occurs.
        creates_interface: whether it creates an interface: there is none if the request is refused.
    """

    description: tuple[object, ...]
    type: int
    body: bytes
    flags: int = 0
    creates_interface: bool = False

    @property
    def action(self) -> str:
        """The description as text."""
        return " ".join(map(str, self.description))

"""Handles of veth pairs, and how they are created."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from pytest_netns.errors import NetnsError
from pytest_netns.lab import connecting
from pytest_netns.lab.connecting import End
from pytest_netns.lab.interface import Interface, handle, impair_all
from pytest_netns.lab.link import Link

if TYPE_CHECKING:
    from pytest_netns.parts.impairment import Impairment
    from pytest_netns.running.halting import Healable


class VethPair(Sequence[Interface]):
    """A veth pair: what one end sends, the other receives. Unpacks as ``a, b = pair``."""

    __slots__ = ("__weakref__", "_ends")

    def __init__(self, a: Interface, b: Interface) -> None:
        self._ends = (a, b)

    @property
    def a(self) -> Interface:
        """The end in the first namespace."""
        return self._ends[0]

    @property
    def b(self) -> Interface:
        """The end in the second namespace."""
        return self._ends[1]

    def delete(self) -> None:
        """Delete both ends."""
        self.a.delete()

    def unplug(self) -> Healable:
        """Unplug the link: both ends lose their carrier, until `plug`, the end of a ``with`` block, or ``lab.heal()``.

        One end is set down: the bridge's, or the second. Its static routes and IPv6 addresses are restored when it is
        plugged in; the other end keeps its own.
        """
        from pytest_netns.lab import switching

        kept = self.b if self.a.is_port else self.a
        return switching.unplug(self.a.namespace.lab.faults, [kept.link])

    def plug(self) -> None:
        """Plug it in again; does nothing unless it is unplugged."""
        from pytest_netns.lab import switching

        switching.plug([self.a.link])

    def flap(self, times: int, *, down: float, up: float) -> None:
        """Unplug it and plug it in again, several times; returns after the last time.

        Args:
            times: the number of times.
            down, up: seconds for which it is unplugged, and then plugged in.
        """
        from pytest_netns.lab import switching

        kept = self.b if self.a.is_port else self.a
        switching.flap(self.a.namespace.lab.faults, [kept.link], times, down, up)

    @property
    def impairment(self) -> Impairment | None:
        """The impairment of packets in each direction; None for none.

        Raises:
            NetnsError: the directions differ: read it at the ends.
        """
        first, second = self.a.impairment, self.b.impairment
        if first != second:
            raise NetnsError(
                f"cannot read a single impairment of {self!r}: {self.a.name} sends with {first}, {self.b.name} with "
                f"{second}; read it at its ends a and b"
            )
        return first

    def impair(self, impairment: Impairment | str | None = None, **values: Any) -> Healable:
        """Impair the link in each direction; see `Interface.impair`.

        A delay of 50 ms makes a round trip take 100 ms.
        """
        return impair_all(self, impairment, values)

    def heal(self) -> None:
        """End the impairment in both directions."""
        for end in self:
            end.heal()

    @overload
    def __getitem__(self, index: int) -> Interface: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Interface]: ...

    def __getitem__(self, index: int | slice) -> Interface | Sequence[Interface]:
        return self._ends[index]

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Interface]:
        return iter(self._ends)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VethPair) and set(self) == set(other)

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def __repr__(self) -> str:
        return f"<VethPair {self.a!r} -- {self.b!r}>"


def join(
    a: End,
    b: End,
    impairments: tuple[Impairment | str | None, Impairment | str | None] = (None, None),
    *,
    bridge: Link | None = None,
    offload: bool = True,
    queues: int | None = None,
) -> VethPair:
    """Create a veth pair; see `connecting.connect`.

    Args:
        impairments: the impairment of packets that each end sends. An invalid one leaves nothing behind.
    """
    if not any(impairments):
        return VethPair(*map(handle, connecting.connect(a, b, bridge=bridge, offload=offload, queues=queues)))
    from pytest_netns.parts.impairment import parse_impairment

    parsed = [None if each is None else parse_impairment(each) for each in impairments]
    pair = VethPair(*map(handle, connecting.connect(a, b, bridge=bridge, offload=offload, queues=queues)))
    try:
        for end, each in zip(pair, parsed, strict=True):
            if each is not None:
                end.impair(each)
    except BaseException:
        pair.delete()
        raise
    return pair

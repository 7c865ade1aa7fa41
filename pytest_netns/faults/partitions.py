"""Shapes of partitions, as groups for `Lab.partition`: those known from Jepsen; pure.

Each takes the members of a cluster and returns groups: two members can communicate if they share one. With ``rng`` the
members are shuffled first, so that a schedule of faults varies them::

    lab.partition(*partitions.majority(["n1", "n2", "n3"]))
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TypeAlias, TypeVar

from pytest_netns.errors import InvalidTopologyError

T = TypeVar("T")
Groups: TypeAlias = list[list[T]]


def halves(members: Iterable[T], rng: random.Random | None = None) -> Groups[T]:
    """Two halves; of an odd number of members the second is larger."""
    listed = _ordered(members, rng, 2)
    middle = len(listed) // 2
    return [listed[:middle], listed[middle:]]


def majority(members: Iterable[T], rng: random.Random | None = None) -> Groups[T]:
    """The smallest majority, and the remaining minority."""
    listed = _ordered(members, rng, 2)
    most = len(listed) // 2 + 1
    return [listed[:most], listed[most:]] if most < len(listed) else [listed[:-1], listed[-1:]]


def isolated(members: Iterable[T], rng: random.Random | None = None) -> Groups[T]:
    """One member alone, and all others."""
    listed = _ordered(members, rng, 2)
    return [listed[:1], listed[1:]]


def bridge(members: Iterable[T], rng: random.Random | None = None) -> Groups[T]:
    """Two halves that cannot see each other, and one member that sees both."""
    listed = _ordered(members, rng, 3)
    middle = len(listed) // 2
    return [listed[: middle + 1], listed[middle:]]


def majorities_ring(members: Iterable[T], rng: random.Random | None = None) -> Groups[T]:
    """Every member sees a majority, including itself, and no two see the same one.

    The members form a ring, and each sees its neighbours.
    """
    listed = _ordered(members, rng, 4)
    count = len(listed)
    reach = (count // 2 + 1) // 2  # neighbours on each side, which together with itself are a majority
    return [[listed[(first + n) % count] for n in range(reach + 1)] for first in range(count)]


def _ordered(members: Iterable[T], rng: random.Random | None, least: int) -> list[T]:
    listed = list(members)
    if len(listed) < least:
        raise InvalidTopologyError(
            f"cannot partition {len(listed)} namespaces in this shape: it needs at least {least}"
        )
    if rng is not None:
        rng.shuffle(listed)
    return listed

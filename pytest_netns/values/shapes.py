"""Type checks of users' values for the type checker: mappings, sequences, sets, and iterables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, TypeGuard


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether it is a mapping."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether it is a list or tuple."""
    return isinstance(value, list | tuple)


def is_set(value: object) -> TypeGuard[Set[Any]]:
    """Whether it is a set."""
    return isinstance(value, set)


def is_several(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether it is an iterable other than text and mappings."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)

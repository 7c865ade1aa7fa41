"""Whether a value that a user passed is a mapping or holds several values: `isinstance` says nothing of what is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, TypeGuard


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """A dict or the like."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """A list or tuple."""
    return isinstance(value, list | tuple)


def is_set(value: object) -> TypeGuard[Set[Any]]:
    """A set."""
    return isinstance(value, set)


def is_several(value: object) -> TypeGuard[Iterable[Any]]:
    """Several values: what can be iterated over, but text and mappings."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)

"""Attributes that are created on first use: what most namespaces never use costs their tests nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from pytest_netns.kernel.system import forking

Owner = TypeVar("Owner")
T = TypeVar("T")

_lock = threading.RLock()


class created_on_use(Generic[Owner, T]):
    """An attribute whose value a method returns on first use (decorator); if several threads use it, it is called once.

    The value is stored under the same name with a leading underscore, which a class with ``__slots__`` must list.
    """

    def __init__(self, create: Callable[[Owner], T]) -> None:
        self._create = create
        self._stored = f"_{create.__name__}"
        self.__doc__ = create.__doc__

    @overload
    def __get__(self, owner: None, kind: type[Owner]) -> created_on_use[Owner, T]: ...
    @overload
    def __get__(self, owner: Owner, kind: type[Owner] | None = None) -> T: ...
    def __get__(self, owner: Owner | None, kind: type[Owner] | None = None) -> Any:
        if owner is None:
            return self
        try:
            return getattr(owner, self._stored)
        except AttributeError:
            with _lock:
                if not self.is_created(owner):
                    setattr(owner, self._stored, self._create(owner))
                return getattr(owner, self._stored)

    def is_created(self, owner: Owner) -> bool:
        """Whether the value has been created."""
        return hasattr(owner, self._stored)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent's may have held it


forking.in_child(_after_fork_in_child)

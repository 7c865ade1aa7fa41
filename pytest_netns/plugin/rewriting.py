"""Import the plugin's own modules without pytest's assertion rewriting, which only test code needs.

Pytest rewrites all modules of a distribution that has a plugin. Importing a rewritten module takes twice as long; where its cache
cannot be written, such as in another user's site-packages, every run compiles it anew.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_OWN = __name__.partition(".")[0] + "."


class PlainFinder:
    """Finds the modules of this package, before pytest's own finder does."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module as Python itself does."""
        return PathFinder.find_spec(name, path, target) if name.startswith(_OWN) else None


sys.meta_path.insert(0, PlainFinder)

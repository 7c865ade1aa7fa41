"""Find nft's official Python bindings: they are part of the distribution's nftables, not on PyPI."""

from __future__ import annotations

import glob
import importlib.util
import os
import sys

REMEDY = "sudo apt-get install python3-nftables (Fedora: sudo dnf install python3-nftables)"
# A virtual environment does not see the distribution's packages; the bindings are pure Python, so those of any version work.
_DEBIAN = "/usr/lib/python3/dist-packages/nftables/__init__.py"
_OTHER_PATTERNS = (
    "/usr/lib/python3*/site-packages/nftables/__init__.py",
    "/usr/lib64/python3*/site-packages/nftables/__init__.py",
    "/usr/local/lib/python3*/*-packages/nftables/__init__.py",
)


def find() -> str | None:
    """The path of the bindings' ``__init__.py``; None if they are not installed."""
    if "nftables" in sys.modules:
        return sys.modules["nftables"].__file__
    if os.path.exists(_DEBIAN):
        return _DEBIAN
    for pattern in _OTHER_PATTERNS:
        for path in sorted(glob.glob(pattern), reverse=True):
            return path
    spec = importlib.util.find_spec("nftables")
    return spec.origin if spec is not None else None

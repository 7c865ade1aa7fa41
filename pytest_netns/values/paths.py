"""Parsers for paths of private directories and files; pure."""

from __future__ import annotations

import os
import posixpath
from typing import Any

from pytest_netns.errors import InvalidTopologyError
from pytest_netns.values.shapes import is_mapping

_NEVER = ("/proc", "/sys")  # each namespace has its own anyway
_NOT_WHOLE = ("/", "/etc")  # every program needs their contents


def parse_path(value: object, what: str = "path") -> str:
    """Parse an absolute path without ".." and return it normalised."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text.startswith("/") or "\0" in text or ".." in text.split("/"):
        raise InvalidTopologyError(f"cannot use {value!r} as {what}: write an absolute path, such as '/var/lib/frr'")
    path = posixpath.normpath("/" + text.lstrip("/"))
    if any(path == each or path.startswith(f"{each}/") for each in _NEVER):
        raise InvalidTopologyError(f"cannot use {value!r} as {what}: each namespace already has its own /proc and /sys")
    return path


def parse_private(value: object) -> str:
    """Parse the path of a private directory."""
    path = parse_path(value, "private directory")
    if path in _NOT_WHOLE:
        raise InvalidTopologyError(
            f"cannot use {value!r} as private directory: every program needs what is in it; name a directory below it"
        )
    return path


def parse_files(value: Any) -> tuple[tuple[str, str], ...]:
    """Parse private files: paths and contents."""
    try:
        items = list(value.items() if is_mapping(value) else ((path, text) for path, text in value))
    except (TypeError, ValueError):
        raise InvalidTopologyError(
            f"cannot use {value!r} as files: write paths with contents, such as {{'/etc/motd': 'hello'}}"
        ) from None
    files: dict[str, str] = {}
    for path, text in items:
        if not isinstance(text, str) or text.encode(errors="replace").decode() != text:
            raise InvalidTopologyError(f"cannot use {text!r} as content of file {path!r}: write text")
        parsed = parse_path(path, "file")
        if parsed == "/":
            raise InvalidTopologyError(f"cannot use {path!r} as file: it is a directory")
        files[parsed] = text
    return tuple(files.items())

"""Format text for output: always encodable, and of bounded length."""

from __future__ import annotations

import os
import re
import shlex
from typing import Any

FIRST_LINES, LAST_LINES = 5, 20
_LONGEST_LINE = 1000  # characters
_WINDOW = 1 << 16  # characters inspected at each end of a text
_SURROGATE = re.compile("[\ud800-\udfff]")


def encodable(text: str) -> str:
    r"""Escape what UTF-8 cannot encode: a byte of a file name becomes ``\xff`` (PEP 383)."""
    if text.isascii():
        return text
    return _SURROGATE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"


def show_argv(cmd: Any) -> str:
    """A command as typed in a shell; it may be anything `subprocess.Popen` accepts."""
    if isinstance(cmd, str | bytes | os.PathLike):
        return encodable(os.fsdecode(cmd))
    return encodable(shlex.join(os.fsdecode(part) for part in cmd))


def show_output(stdout: str | bytes | None, stderr: str | bytes | None) -> str:
    """The first and last lines of both outputs, each under its own title; empty if both are."""
    shown = ""
    for title, output in (("stdout" if stderr is not None else "output", stdout), ("stderr", stderr)):
        text = output.decode(errors="backslashreplace") if isinstance(output, bytes) else output or ""
        lines, total = excerpt(text, LAST_LINES)
        if lines:
            cut = f" (first {FIRST_LINES} and last {LAST_LINES} of {total} lines)" if len(lines) < total else ""
            shown += f"\n  {title}{cut}:\n" + indent("\n".join(lines))
    return shown


def excerpt(text: str, last: int) -> tuple[list[str], int]:
    """The first lines of a text and a number of the last ones, with long lines shortened; and the total number of lines.

    Programs report errors at the beginning or at the end, so both are kept. A line ``"..."`` marks the gap.
    """
    total = 0
    if len(text) > 2 * _WINDOW:
        total = text.count("\n") + (not text.endswith("\n"))
        text = f"{text[:_WINDOW]}\n...\n{text[-_WINDOW:]}" if total > 1 else text[:_WINDOW] + text[-_WINDOW:]
    lines = text.rstrip().splitlines()
    total = max(total, len(lines))
    if len(lines) > FIRST_LINES + last:
        lines = [*lines[:FIRST_LINES], "...", *lines[-last:]]
    return [_shorten(encodable(line)) for line in lines], total


def _shorten(line: str) -> str:
    half = _LONGEST_LINE // 2
    return line if len(line) <= _LONGEST_LINE else f"{line[:half]} [...] {line[-half:]}"


def indent(text: str) -> str:
    """Indent each line by four spaces."""
    return "\n".join("    " + line for line in text.splitlines())


def show_status(returncode: int) -> str:
    """Format `subprocess.Popen.returncode`: ``"exit status 3"``, ``"signal 1 (SIGHUP)"``."""
    if returncode >= 0:
        return f"exit status {returncode}"
    import signal

    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "unknown"
    return f"signal {-returncode} ({name})"

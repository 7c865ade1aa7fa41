"""Text that leaves the plugin: always encodable, and of a bounded length."""

from __future__ import annotations

import os
import re
import shlex
from typing import Any

FIRST_LINES, LAST_LINES = 5, 20
_LONGEST_LINE = 1000  # characters
_WINDOW = 1 << 16  # characters looked at, at each end of a text
_SURROGATE = re.compile("[\ud800-\udfff]")


def encodable(text: str) -> str:
    r"""The same text, with what UTF-8 cannot write as an escape: a byte of a file's name as ``\xff`` (PEP 383)."""
    if text.isascii():
        return text
    return _SURROGATE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"


def show_argv(cmd: Any) -> str:
    """A command as one would type it; it may be anything `subprocess.Popen` takes."""
    if isinstance(cmd, str | bytes | os.PathLike):
        return encodable(os.fsdecode(cmd))
    return encodable(shlex.join(os.fsdecode(part) for part in cmd))


def show_output(stdout: str | bytes | None, stderr: str | bytes | None) -> str:
    """The first and last lines of both outputs, each under its own title; empty when both are."""
    shown = ""
    for title, output in (("stdout" if stderr is not None else "output", stdout), ("stderr", stderr)):
        text = output.decode(errors="backslashreplace") if isinstance(output, bytes) else output or ""
        lines, total = excerpt(text, LAST_LINES)
        if lines:
            cut = f" (first {FIRST_LINES} and last {LAST_LINES} of {total} lines)" if len(lines) < total else ""
            shown += f"\n  {title}{cut}:\n" + indent("\n".join(lines))
    return shown


def excerpt(text: str, last: int) -> tuple[list[str], int]:
    """The first lines of a text and this many of the last, long ones shortened; and how many lines there are.

    Programs say first what is wrong, or last: so both are kept. What is between them is a line of its own, ``"..."``.
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
    """Each line four spaces to the right."""
    return "\n".join("    " + line for line in text.splitlines())


def show_status(returncode: int) -> str:
    """How a program has ended, as `subprocess.Popen.returncode` tells: ``"exit status 3"``, ``"signal 1 (SIGHUP)"``."""
    if returncode >= 0:
        return f"exit status {returncode}"
    import signal

    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "unknown"
    return f"signal {-returncode} ({name})"

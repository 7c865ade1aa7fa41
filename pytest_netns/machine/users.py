"""Other users in rootless mode: the ranges of /etc/subuid and /etc/subgid, mapped by newuidmap(1) and newgidmap(1).

Every user and group keeps its number inside: your own id is unchanged, and number 101 has its name of /etc/passwd,
but owns different files than outside.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from pytest_netns.machine.attempts import StepError

STEP = "other users"
_INSTALL = "sudo apt-get install uidmap"
_PROGRAMS = {"uid": "newuidmap", "gid": "newgidmap"}


class Line(NamedTuple):
    """A line of a map, user_namespaces(7): a range of numbers inside, and the range outside it maps to."""

    inside: int
    outside: int
    numbers: int


class Range(NamedTuple):
    """A range of numbers that a user may map: the first, and the count."""

    start: int
    numbers: int


def lines_of(own_id: int, extra: Range) -> list[Line]:
    """A map that keeps the user's own number, and maps others to a range."""
    before = min(own_id, extra.numbers)
    after = Line(own_id + 1, extra.start + before, extra.numbers - before)
    lines = [Line(0, extra.start, before), Line(own_id, own_id, 1), after]
    return [line for line in lines if line.numbers > 0]


def parse_ranges(text: str, names: Sequence[str]) -> list[Range]:
    """Parse a user's ranges, by name or number, from the text of /etc/subuid, subuid(5)."""
    ranges: list[Range] = []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
            ranges.append(Range(int(fields[1]), int(fields[2])))
    return ranges


class Mapper:
    """A child process that stays outside, and maps users once its parent is in its own user namespace.

    Raises:
        StepError: users cannot be mapped here; names what is missing.
    """

    def __init__(self) -> None:
        commands = [_command(kind, own_id) for kind, own_id in (("uid", os.geteuid()), ("gid", os.getegid()))]
        read, self._go = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            status = 1
            try:
                os.close(self._go)
                status = 0 if os.read(read, 1) and _run(commands) else 1
            finally:
                os._exit(status)
        os.close(read)

    def map(self) -> bool:
        """Map the users of the calling process; returns whether it succeeded."""
        os.write(self._go, b"1")
        return self._end()

    def cancel(self) -> None:
        """End the child process without mapping."""
        self._end()

    def _end(self) -> bool:
        os.close(self._go)
        return os.waitpid(self._child, 0)[1] == 0


def _command(kind: str, own_id: int) -> list[str]:
    import pwd  # not available on other systems, on which suites are collected too

    program = shutil.which(_PROGRAMS[kind]) or shutil.which(_PROGRAMS[kind], path="/usr/bin:/bin:/usr/sbin:/sbin")
    if program is None:
        raise StepError(STEP, 0, f"{_PROGRAMS[kind]} is not installed", _INSTALL)
    file = f"/etc/sub{kind}"
    number = os.geteuid()  # group ranges are assigned by user too
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            ranges = parse_ranges(text.read(), (name, str(number)))
    except OSError:
        ranges = []
    if not ranges:
        remedy = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
        raise StepError(STEP, 0, f"{file} gives user {name} no numbers for other users", remedy)
    lines = lines_of(own_id, max(ranges, key=lambda each: each.numbers))
    return [program, str(os.getpid()), *(str(number) for line in lines for number in line)]


def _run(commands: Sequence[Sequence[str]]) -> bool:
    quiet = subprocess.DEVNULL
    return all(subprocess.run(each, stdin=quiet, stdout=quiet, stderr=quiet).returncode == 0 for each in commands)

"""``pytest-netns doctor``: what works on this machine, and for each thing that does not, why and what mends it."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest_netns

if TYPE_CHECKING:
    from pytest_netns.kernel.probes import Result

_MAIN = (("namespaces", "network"), ("interfaces", "veth"))  # without these there is no lab
_OPEN_FILES = 1024
_PROCESSES = 256
_WIDTH = 110
_INDENT = 18


@dataclass(frozen=True)
class Line:
    """One row of the table; ``cause``, ``remedy`` and ``without`` are empty where all is well."""

    group: str
    name: str
    ok: bool
    cause: str = ""
    remedy: str = ""
    without: str = ""


@dataclass(frozen=True)
class Report:
    """What the doctor has found.

    Attributes:
        works: whether labs can be made: the plugin's main job.
        modes: those of ``root`` and ``rootless`` that this process can use.
        lines: every thing that was tried.
    """

    works: bool
    modes: tuple[str, ...]
    lines: tuple[Line, ...]


def add_parser(subparsers: Any) -> None:
    """Add this subcommand to the program's."""
    parser = subparsers.add_parser("doctor", help="what works on this machine, and what mends what does not")
    parser.add_argument("--json", action="store_true", help="for scripts: one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report; 0 where the plugin can do its main job, else 1."""
    report = examine()
    print(_as_json(report) if arguments.json else show(report))
    return 0 if report.works else 1


def examine() -> Report:
    """Try everything."""
    if sys.platform != "linux":
        line = Line(
            "system",
            sys.platform,
            False,
            "it needs Linux",
            "run these tests on Linux: a VM, a container or CI",
            "nothing; tests that use netns are skipped",
        )
        return Report(False, (), (line,))
    from pytest_netns.kernel import privileges, probes

    results = [probes.run(probe) for probe in probes.all_probes()]
    ok = {(result.probe.group, result.probe.name) for result in results if result.ok}
    modes = []
    if privileges.is_privileged() and ("namespaces", "network") in ok:
        modes.append("root")
    if ("namespaces", "user") in ok:
        modes.append("rootless")
    lines = [*map(_line, results), *_limits(), _xdist()]
    return Report(all(each in ok for each in _MAIN), tuple(modes), tuple(lines))


def _line(result: Result) -> Line:
    probe = result.probe
    return Line(probe.group, probe.name, result.ok, result.cause, result.remedy, "" if result.ok else probe.without)


def _limits() -> list[Line]:
    import resource

    from pytest_netns.kernel.diagnosis import read_sysctl

    found = []
    for name, which, least, option in (
        ("open files", resource.RLIMIT_NOFILE, _OPEN_FILES, "-n"),
        ("processes", resource.RLIMIT_NPROC, _PROCESSES, "-u"),
    ):
        soft, _ = resource.getrlimit(which)
        enough = soft == resource.RLIM_INFINITY or soft >= least
        without = "small labs; a namespace takes some 5 open files and 2 processes"
        found.append(
            Line("limits", name, True)
            if enough
            else Line("limits", name, False, f"no more than {soft}", f"ulimit {option} {least * 4}", without)
        )
    namespaces = int(read_sysctl("user/max_net_namespaces") or 0)
    found.append(
        Line("limits", "namespaces", True)
        if namespaces >= _PROCESSES
        else Line(
            "limits",
            "namespaces",
            False,
            f"user.max_net_namespaces is {namespaces}",
            "sudo sysctl -w user.max_net_namespaces=100000",
            "labs of that many namespaces",
        )
    )
    return found


def _xdist() -> Line:
    try:
        importlib.metadata.version("pytest-xdist")
    except importlib.metadata.PackageNotFoundError:
        return Line(
            "programs",
            "pytest-xdist",
            False,
            "it is not installed",
            "pip install pytest-xdist",
            "everything; tests run one after the other",
        )
    return Line("programs", "pytest-xdist", True)


# -- showing ---------------------------------------------------------------------------------------


def show(report: Report) -> str:
    """The table: what works is one line for a group, what does not is a paragraph of its own."""
    lines = [_about(), _verdict(report), ""]
    for group in dict.fromkeys(line.group for line in report.lines):
        rows = [line for line in report.lines if line.group == group]
        good = [line.name for line in rows if line.ok]
        if good:
            lines += _wrap(f"  {group:10} ok   ", ", ".join(good))
        for line in (row for row in rows if not row.ok):
            lines += _wrap(f"  {group:10} NO   ", f"{line.name}: {line.cause}")
            if line.remedy:
                lines += _wrap(" " * _INDENT + "remedy: ", line.remedy)
            lines += _wrap(" " * _INDENT + "still works: ", line.without)
    return "\n".join(lines)


def _about() -> str:
    who = f"uid {os.geteuid()}" if hasattr(os, "geteuid") else "this user"
    pytest_version = importlib.metadata.version("pytest")
    return (
        f"pytest-netns {pytest_netns.__version__}, pytest {pytest_version}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.release()}, {who}"
    )


def _verdict(report: Report) -> str:
    if not report.works:
        return "It does NOT work here: no network namespace can be made."
    missing = [line.name for line in report.lines if not line.ok]
    modes = " and ".join(report.modes)
    return f"It works here, in mode {modes}" + (
        f"; {len(missing)} things are missing, see NO below." if missing else "."
    )


def _wrap(first: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _as_json(report: Report) -> str:
    return json.dumps(
        {
            "version": pytest_netns.__version__,
            "works": report.works,
            "modes": report.modes,
            "probes": [vars(line) for line in report.lines],
        },
        indent=2,
    )

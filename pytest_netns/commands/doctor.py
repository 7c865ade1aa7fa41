"""``pytest-netns doctor``: what works on this machine, and for each feature that does not, the cause and how to fix it."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest_netns

if TYPE_CHECKING:
    from pytest_netns.machine.probing import Result

_MAIN = (("namespaces", "network"), ("interfaces", "veth"))  # without these there is no lab
_NOTHING = "only tests that do not use netns can run"
_MODPROBE = "sudo modprobe "
_OPEN_FILES = 1024
_PROCESSES = 256
_WIDTH = 110
_INDENT = len(f"  {'':10} NO   ")


@dataclass(frozen=True)
class Line:
    """One feature; ``cause``, ``remedy`` and ``without`` are empty if it works."""

    group: str
    name: str
    ok: bool
    cause: str = ""
    remedy: str = ""
    without: str = ""
    tried: bool = True


@dataclass(frozen=True)
class Report:
    """The results of the doctor.

    Attributes:
        works: whether labs can be created.
        modes: which of ``root`` and ``rootless`` this process can use.
        lines: every feature that was tried.
    """

    works: bool
    modes: tuple[str, ...]
    lines: tuple[Line, ...]


def add_parser(subparsers: Any) -> None:
    """Add this subcommand to the program's."""
    parser = subparsers.add_parser("doctor", help="what works on this machine, and how to fix what does not")
    parser.add_argument("--json", action="store_true", help="for scripts: one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report; returns 0 if labs can be created, else 1."""
    report = examine()
    print(_as_json(report) if arguments.json else show(report))
    return 0 if report.works else 1


def examine() -> Report:
    """Try all features."""
    if sys.platform != "linux":
        line = Line(
            "system",
            sys.platform,
            False,
            "it needs Linux",
            "run these tests on Linux: a VM, a container or CI",
            _NOTHING,
        )
        return Report(False, (), (line,))
    from pytest_netns.kernel.system import privileges

    if not privileges.has_proc():
        line = Line("system", "/proc", False, privileges.NO_PROC, privileges.MOUNT_PROC, _NOTHING)
        return Report(False, (), (line,))
    from pytest_netns.machine import probes, probing

    results = probing.run(probes.everything())
    ok = {(result.probe.group, result.probe.name) for result in results if result.ok}
    modes: list[str] = []
    if probing.works_as_root():
        modes.append("root")
    if ("namespaces", "user") in ok:
        modes.append("rootless")
    works = all(each in ok for each in _MAIN)
    lines = [*(_line(result, works) for result in results), *_limits(), _xdist(), _slirp4netns()]
    if works:
        lines.append(_openvswitch())
    return Report(works, tuple(modes), tuple(lines))


def _line(result: Result, works: bool) -> Line:
    probe = result.probe
    without = "" if result.ok else probe.without if works else _NOTHING
    return Line(probe.group, probe.name, result.ok, result.cause, result.remedy, without, result.tried)


def _limits() -> list[Line]:
    import resource

    from pytest_netns.kernel.system.diagnosis import read_sysctl

    lines: list[Line] = []
    for name, which, least, option in (
        ("open files", resource.RLIMIT_NOFILE, _OPEN_FILES, "-n"),
        ("processes", resource.RLIMIT_NPROC, _PROCESSES, "-u"),
    ):
        soft, _ = resource.getrlimit(which)
        enough = soft == resource.RLIM_INFINITY or soft >= least
        without = "only small labs work; a namespace takes about 5 open files and 2 processes"
        lines.append(
            Line("limits", name, True)
            if enough
            else Line("limits", name, False, f"no more than {soft}", f"ulimit {option} {least * 4}", without)
        )
    namespaces = int(read_sysctl("user/max_net_namespaces") or 0)
    lines.append(
        Line("limits", "namespaces", True)
        if namespaces >= _PROCESSES
        else Line(
            "limits",
            "namespaces",
            False,
            f"user.max_net_namespaces is {namespaces}",
            "sudo sysctl -w user.max_net_namespaces=100000",
            "labs of up to that many namespaces work",
        )
    )
    return lines


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
            "tests run one at a time",
        )
    return Line("programs", "pytest-xdist", True)


def _slirp4netns() -> Line:
    from pytest_netns.machine import uplink

    if uplink.find_program() is not None:
        return Line("programs", "slirp4netns", True)
    remedy, without = "sudo apt-get install slirp4netns", "ns.add_uplink() does not work"
    return Line("programs", "slirp4netns", False, "it is not installed", remedy, without)


def _openvswitch() -> Line:
    from pytest_netns.errors import UnavailableError
    from pytest_netns.lab import openvswitch

    try:
        openvswitch.check_available()
    except UnavailableError as error:
        without = 'bridges of kind "openvswitch" do not work'
        return Line("programs", "Open vSwitch", False, error.cause, error.remedy, without)
    return Line("programs", "Open vSwitch", True)


# -- showing ---------------------------------------------------------------------------------------


def show(report: Report) -> str:
    """Format the table: for each group one line with what works, and what does not with its cause and remedy."""
    shown = [_about(), *_wrap("", _verdict(report)), ""]
    for group in dict.fromkeys(line.group for line in report.lines):
        lines = [line for line in report.lines if line.group == group and line.tried]
        good = [line.name for line in lines if line.ok]
        if good:
            shown += _wrap(f"  {group:10} ok   ", ", ".join(good))
        for cause in dict.fromkeys(line.cause for line in lines if not line.ok):
            shown += _show_missing(group, cause, [line for line in lines if line.cause == cause and not line.ok])
    untried = sum(not line.tried for line in report.lines)
    if untried:
        shown.append(f"  not tried, since there is no network namespace: the other {untried} features")
    return "\n".join(shown)


def _show_missing(group: str, cause: str, lines: Sequence[Line]) -> list[str]:
    """Format the features missing for one cause."""
    remedies = _join_remedies(dict.fromkeys(line.remedy for line in lines if line.remedy))
    shown = _wrap(f"  {group:10} NO   ", f"{', '.join(line.name for line in lines)}: {cause}")
    if remedies:
        shown += _wrap(" " * _INDENT + "remedy: ", remedies)
    without = dict.fromkeys(line.without for line in lines if line.without)
    return shown + _wrap(" " * _INDENT + "without: ", "; ".join(without) or "everything else works")


def _join_remedies(remedies: Collection[str]) -> str:
    """Join remedies, with a single command for all modules to be loaded."""
    modules = [remedy.removeprefix(_MODPROBE) for remedy in remedies if remedy.startswith(_MODPROBE)]
    others = [remedy for remedy in remedies if not remedy.startswith(_MODPROBE)]
    every = " -a" if len(modules) > 1 else ""
    return "; ".join([*others, *([f"sudo modprobe{every} {' '.join(modules)}"] if modules else [])])


def _about() -> str:
    who = f"uid {os.geteuid()}" if hasattr(os, "geteuid") else "this user"
    pytest_version = importlib.metadata.version("pytest")
    return (
        f"pytest-netns {pytest_netns.__version__}, pytest {pytest_version}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.release()}, {who}"
    )


def _verdict(report: Report) -> str:
    if not report.works:
        return "It does NOT work here: no network namespace can be created."
    missing = ", ".join(line.name for line in report.lines if not line.ok)
    return f"It works here, in mode {' and '.join(report.modes)}{f'; missing: {missing}' if missing else ''}."


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

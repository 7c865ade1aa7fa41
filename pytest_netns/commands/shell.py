"""``pytest-netns shell FILE``: builds a topology and opens a shell in it; everything is removed when the shell ends."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Generator
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_netns.commands.draw import add_topology, load
from pytest_netns.errors import InvalidTopologyError
from pytest_netns.kernel.system import privileges
from pytest_netns.machine import rootless
from pytest_netns.topology import Topology
from pytest_netns.values import parse_choice

if TYPE_CHECKING:
    from pytest_netns.lab.lab import Lab

_PROGRESS_INTERVAL = 0.3  # seconds


def add_parser(subparsers: Any) -> None:
    """Add this subcommand to the program's."""
    parser = subparsers.add_parser("shell", help="build a topology and open a shell in it")
    add_topology(parser)
    parser.add_argument(
        "--in", dest="inside", metavar="NAMESPACE", help="the namespace of the shell; default: the first one"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Build the topology, run the shell, remove everything; returns the shell's exit status."""
    topology = load(arguments.topology)
    names = topology.namespace_names
    if not names:
        raise InvalidTopologyError("cannot open a shell: this topology has no namespaces")
    inside = arguments.inside or names[0]
    parse_choice(inside, names, "namespace")
    if not privileges.is_privileged():
        rootless.enter()
    return _run_inside(topology, inside)


def _run_inside(topology: Topology, inside: str) -> int:
    from pytest_netns.explaining import pausing
    from pytest_netns.lab.lab import Lab

    # Ctrl-C at the terminal is for the shell; other signals end this program and the lab.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    with Lab("shell") as lab:
        with _progress(lab, len(topology.namespace_names)):
            lab.build(topology)
        if sys.stderr.isatty():
            sys.stderr.write(
                f"{lab.draw()}\nThis is {inside}; everything is gone when the shell ends. From elsewhere:\n"
            )
            sys.stderr.write("\n".join(pausing.enter_commands(lab)) + "\n")
        environment = os.environ | {"PS1": f"[{inside}] \\$ "}
        status: int = lab[inside].popen([os.environ.get("SHELL") or "/bin/sh"], env=environment).wait()
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def _progress(lab: Lab, number: int) -> Generator[None]:
    """Show the progress of building on a terminal, if it takes a while."""
    built = threading.Event()

    def show() -> None:
        while not built.wait(_PROGRESS_INTERVAL):
            sys.stderr.write(f"\r{len(lab)} of {number} namespaces")
            sys.stderr.flush()

    progress = threading.Thread(target=show, daemon=True)
    if sys.stderr.isatty():
        progress.start()
    try:
        yield
    finally:
        built.set()
        if sys.stderr.isatty():
            progress.join()
            sys.stderr.write("\r\x1b[K")


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)

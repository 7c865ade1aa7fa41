"""``pytest-netns draw FILE``: a topology as a picture, without building it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pytest_netns.drawing import FORMATS
from pytest_netns.topology import PICTURES, Topology


def add_parser(subparsers: Any) -> None:
    """Add this subcommand to the program's."""
    parser = subparsers.add_parser("draw", help="draw a topology as text, Mermaid or SVG")
    add_topology(parser)
    parser.add_argument(
        "--format", choices=FORMATS, help="default: by the extension of --output (.svg, .mmd), else text"
    )
    parser.add_argument("--output", "-o", type=Path, metavar="PATH", help="the file to write; default: stdout")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw a topology; returns the exit status."""
    ending = arguments.output.suffix if arguments.output else ""
    format_ = arguments.format or {".svg": "svg", ".mmd": "mermaid"}.get(ending, "text")
    drawing = load(arguments.topology).draw(format_)
    if arguments.output:
        arguments.output.write_text(drawing, encoding="utf-8")
    else:
        sys.stdout.write(drawing)
    return 0


def add_topology(parser: Any) -> None:
    """Add the argument that names a topology."""
    names = ", ".join(PICTURES)
    parser.add_argument("topology", metavar="FILE", help=f"a topology in TOML, or the name of a picture: {names}")


def load(name: str) -> Topology:
    """Load a topology by the name of its file, or of a picture."""
    return PICTURES[name] if name in PICTURES else Topology.from_toml(name)

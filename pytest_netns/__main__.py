"""The program ``pytest-netns``, also ``python -m pytest_netns``: each subcommand is a module with an ``add_parser``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pytest_netns import doctor

COMMANDS = (doctor,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(prog="pytest-netns", description="Network namespaces for tests.")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    parsed = parser.parse_args(arguments)
    return int(parsed.run(parsed))


if __name__ == "__main__":
    sys.exit(main())

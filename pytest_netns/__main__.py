"""The program ``pytest-netns``, also ``python -m pytest_netns``: each subcommand is a module with an ``add_parser``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pytest_netns.commands import doctor, draw, shell
from pytest_netns.errors import NetnsError

COMMANDS = (doctor, draw, shell)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(prog="pytest-netns", description="Network namespaces for tests.")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    parsed = parser.parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except (NetnsError, OSError) as error:
        sys.stderr.write(f"pytest-netns: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())

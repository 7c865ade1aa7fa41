"""Adds up the runs' results, and checks that every skipped test was skipped for a reason that is known and named.

Usage: summary.py FILE.xml ...   (JUnit files; a file's name is the run's name)
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from fnmatch import fnmatch
from pathlib import Path

# Runs (a pattern), and what a skip in them may say. A reason that fits none of these fails the suite.
ALLOWED_SKIPS = (
    ("*user*", r"^needs root(: |$)"),
    ("[!k]*", r"^this kernel lacks "),
    ("kernel-uml-*", r"^cannot use (NAT and nft rulesets: this kernel is built without it|.*[Ww]ire[Gg]uard)"),
    ("*", r"^cannot use (interfaces of kind \w+|\w+ of bridge interfaces): this kernel "),
    ("*user*", r"^cannot use interfaces of kind \w+: /dev/net/tun may not be opened"),
    ("*", r"^the module \w+ is not loaded, and loading it adds interfaces to this machine$"),
    ("*", r"^Python warns since 3\.12$"),
    ("*", r"^needs a kernel without IPv6$"),
)


def main(paths: list[str]) -> int:
    """Print a line for each run and one for all; 1 where something failed, nothing ran, or a skip is not allowed."""
    total = {"passed": 0, "failed": 0, "skipped": 0}
    complaints = []
    for path in map(Path, paths):
        counts, skips = read(path)
        print(f"{path.stem:18} {show(counts)}")
        for key in total:
            total[key] += counts[key]
        if not counts["passed"]:
            complaints.append(f"{path.stem}: no test passed")
        for name, reason in skips:
            if not any(fnmatch(path.stem, run) and re.search(pattern, reason) for run, pattern in ALLOWED_SKIPS):
                complaints.append(f"{path.stem}: {name} was skipped for a reason that is not allowed: {reason}")
    print(*complaints, sep="\n")
    print(show(total))
    return 1 if complaints or total["failed"] or not paths else 0


def read(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A run's counts, and its skipped tests with their reasons."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    skips = []
    for case in ET.parse(path).getroot().iter("testcase"):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            counts["failed"] += 1
        elif skipped is not None:
            counts["skipped"] += 1
            skips.append((f"{case.get('classname')}::{case.get('name')}", skipped.get("message", "")))
        else:
            counts["passed"] += 1
    return counts, skips


def show(counts: dict[str, int]) -> str:
    """``12 passed, 0 failed, 1 skipped``."""
    return ", ".join(f"{number} {name}" for name, number in counts.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Add up the runs' results, and check that every skip has an allowed reason.

Usage: summary.py FILE.xml ...   (JUnit files; a file's name is the run's name; NAME.again.xml: the second try of failures in NAME)
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
MAX_FLAKY = 3  # tests that failed and passed in the second try, in all runs together

# The allowed reasons of skips in runs that match a pattern. Any other reason fails the suite.
ALLOWED_SKIPS = (
    ("*user*", r"^needs root(: |$)"),
    ("[!k]*", r"^this kernel lacks "),
    ("kernel-uml-*", r"^cannot use (NAT and nft rulesets: this kernel is built without it|.*[Ww]ire[Gg]uard)"),
    ("*", r"^cannot use (interfaces of kind \w+|\w+ of bridge interfaces): this kernel "),
    ("*user*", r"^cannot use interfaces of kind \w+: /dev/net/tun may not be opened"),
    (
        "*user*",
        r"^cannot use Open vSwitch: this kernel has no openvswitch module, and in user space it needs /dev/net/tun",
    ),
    ("*user*", r"^cannot use uplinks: pytest has moved into a user namespace"),
    ("*", r"^the module \w+ is not loaded, and loading it adds interfaces to this machine$"),
    ("*", r"^Python warns since 3\.12$"),
    ("*", r"^needs a kernel without IPv6$"),
)


def main(paths: list[str]) -> int:
    """Print a line for each run and a total; returns 1 if a test failed, none ran, or a skip is not allowed."""
    total: Counter[str] = Counter()
    complaints, flaky = [], []
    for path in map(Path, paths):
        if path.stem.endswith(".again"):
            continue
        outcomes = read(path)
        again = path.with_suffix(".again.xml")
        for name, outcome in read(again).items() if again.exists() else ():
            if outcome == PASSED and outcomes[name] == FAILED:
                outcomes[name] = PASSED
                flaky.append(f"{path.stem}: {name}")
        counts = Counter(outcome.partition(" ")[0] for outcome in outcomes.values())
        print(f"{path.stem:18} {show(counts)}")
        total += counts
        if not counts[PASSED]:
            complaints.append(f"{path.stem}: no test passed")
        for name, outcome in outcomes.items():
            reason = outcome.removeprefix(SKIPPED).strip()
            if outcome.startswith(SKIPPED) and not is_allowed(path.stem, reason):
                complaints.append(f"{path.stem}: {name} was skipped for a reason that is not allowed: {reason}")
    if len(flaky) > MAX_FLAKY:
        complaints.append(f"more than {MAX_FLAKY} tests passed only when run again")
    print(*complaints, *(f"flaky, passed when run again: {name}" for name in flaky), sep="\n")
    print(f"{show(total)}, {len(flaky)} of the passed flaky" if flaky else show(total))
    return 1 if complaints or total[FAILED] or not paths else 0


def is_allowed(run: str, reason: str) -> bool:
    """Whether a test may be skipped in a run for a reason."""
    return any(fnmatch(run, runs) and re.search(pattern, reason) for runs, pattern in ALLOWED_SKIPS)


def read(path: Path) -> dict[str, str]:
    """The tests of a run, each with its outcome; SKIPPED is followed by the reason."""
    outcomes = {}
    for case in ET.parse(path).getroot().iter("testcase"):
        skipped = case.find("skipped")
        name = f"{case.get('classname')}::{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            outcomes[name] = FAILED
        elif skipped is not None:
            outcomes[name] = f"{SKIPPED} {skipped.get('message', '')}"
        else:
            outcomes.setdefault(name, PASSED)
    return outcomes


def show(counts: Counter[str]) -> str:
    """``12 passed, 0 failed, 1 skipped``."""
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in (PASSED, FAILED, SKIPPED))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

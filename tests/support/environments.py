"""Environments a suite may run in, built on this machine: other users, fewer rights, filters, restricted mounts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0
# The owner of the project can read it; if that is root, nobody (or the user who runs this) must be able to.
OTHER = ROOT.stat().st_uid or 65534
FILTER = Path(__file__).with_name("seccomp_filter.py")
NO_CACHE = "-pno:cacheprovider"
# Inner runs load only the plugins they need: importing all takes most of the time of a short run.
FEW_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p netns -p xdist"}
NAMES = (
    "LOGNAME",
    "USER",
    "LNAME",
    "USERNAME",
)  # those of the user who runs the suite; an inner run may be another user's
TIMEOUT = 120  # seconds after which an inner run counts as hung

Argv = Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """The result of an inner run of pytest."""

    status: int
    counts: Mapping[str, int]
    output: str


def ordinary_user() -> Argv:
    """A command prefix: an ordinary user without any privilege."""
    drop = ["--inh-caps=-all", "--ambient-caps=-all"]
    if IS_ROOT:
        return ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups", *drop]
    return ["setpriv", *drop]


def as_root() -> Argv:
    """A command prefix: root, of this machine or of a new user namespace."""
    return [] if IS_ROOT else ["unshare", "--user", "--map-root-user", "--net"]


def without_capabilities(*names: str) -> Argv:
    """A command prefix: root without some capabilities, as in a container."""
    dropped = ",".join(f"-{name}" for name in names)
    return [*as_root(), "setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}", "--ambient-caps=-all"]


def filtered(*calls: str) -> Argv:
    """A command prefix: a seccomp filter refuses these system calls, each as NAME:ERRNO; see seccomp_filter.py."""
    return [sys.executable, str(FILTER), *calls, "--"]


def shell(script: str) -> Argv:
    """A command prefix: a shell script that runs before the command."""
    return ["sh", "-ec", f'{script}\nexec "$@"', "sh"]


# Every /proc there is: the kernel allows a new one if any visible one hides nothing, mount_namespaces(7).
MASK_PROC = """
mount --bind /dev/null /proc/interrupts
findmnt --raw --noheadings --types proc --output TARGET | while read -r proc; do
    [ "$proc" = /proc ] || mount --bind /dev/null "$proc/interrupts"
done
"""


def environment(*, every_plugin: bool = False, **changes: str) -> dict[str, str]:
    """This process's environment without the variables of the outer pytest run."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTEST_XDIST", "PYTEST_CURRENT", "COV_")) and key not in (*FEW_PLUGINS, *NAMES)
    }
    kept.pop("CI", None)
    kept |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return kept | ({} if every_plugin else FEW_PLUGINS) | changes


def run_pytest(
    prefix: Argv,
    directory: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> Outcome:
    """Run the suite in a directory, in an environment."""
    argv = [*prefix, python, "-m", "pytest", NO_CACHE, "-rA", f"--rootdir={directory}", *arguments]
    done = subprocess.run(
        argv,
        cwd=directory,
        env=env or environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT,
        check=False,
    )
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    found = re.findall(r"(\d+) (subtests passed|passed|failed|skipped|error|rerun)", last)
    return Outcome(done.returncode, {name: int(number) for number, name in found}, done.stdout)


def run_doctor(prefix: Argv, *, env: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any], str]:
    """The exit status, each probe's row by ``GROUP/NAME``, and the table as shown."""
    command = [*prefix, sys.executable, "-m", "pytest_netns", "doctor"]
    options: dict[str, Any] = {
        "cwd": "/",
        "env": env or environment(),
        "capture_output": True,
        "text": True,
        "timeout": TIMEOUT,
    }
    done = subprocess.run([*command, "--json"], check=False, **options)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    table = subprocess.run(command, check=False, **options)
    rows = {f"{row['group']}/{row['name']}": row for row in found["probes"]}
    return done.returncode, {**found, "rows": rows}, table.stdout


def give(directory: Path) -> Path:
    """Let every user read and write a directory, which must be below one that they can pass."""
    directory.chmod(0o777)
    if IS_ROOT:
        shutil.chown(directory, OTHER, OTHER)
    return directory

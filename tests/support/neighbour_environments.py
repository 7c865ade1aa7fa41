"""Virtual environments with the plugins that suites use, and with the oldest and the newest pytest; created once and kept.

Run it to create them all with network access: a run of the tests without root has none. They are kept in
$NETNS_NEIGHBOURS, which several users can share read-only, or else in the directory for temporary files.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTEST = next(each for each in PROJECT["project"]["dependencies"] if each.startswith("pytest>="))
ALL_AT_ONCE = tuple(PROJECT["dependency-groups"]["neighbours"])
OLDEST = (PYTEST.replace(">=", "==") + ".*", "pytest-xdist")
NEWEST = ("pytest", "pytest-xdist")
PLACE = Path(os.environ.get("NETNS_NEIGHBOURS") or f"{tempfile.gettempdir()}/pytest-netns-neighbours-{os.getuid()}")
INSTALL_TIMEOUT = 240  # seconds


def python_of(requirements: tuple[str, ...]) -> Path:
    """The path of an environment's Python, whether it exists or not."""
    key = hashlib.sha256(repr((requirements, sys.version)).encode()).hexdigest()[:12]
    return PLACE / key / "bin" / "python"


def is_made(requirements: tuple[str, ...]) -> bool:
    """Whether an environment is complete."""
    return python_of(requirements).with_name("complete").exists()


def make(requirements: tuple[str, ...]) -> None:
    """Create an environment with these packages and the project, unless it exists."""
    PLACE.mkdir(mode=0o755, exist_ok=True)
    python = python_of(requirements)
    with open(PLACE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # workers of one run share it
        if is_made(requirements):
            return
        shutil.rmtree(python.parents[1], ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True, timeout=INSTALL_TIMEOUT)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-e", str(ROOT)]
        subprocess.run([*install, *requirements], check=True, timeout=INSTALL_TIMEOUT)
        python.with_name("complete").touch()


if __name__ == "__main__":
    for each in (ALL_AT_ONCE, OLDEST, NEWEST):
        make(each)

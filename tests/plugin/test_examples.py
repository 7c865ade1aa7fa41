"""The examples are what users start from: each must pass unchanged, as its own suite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

TUN = "/dev/net/tun"
NEED_ROOT = {"containers": "Podman, which changes what is mounted"}
NEED_TUN = {"nat64", "openvswitch", "vpn"}
FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/test_*.py"))


def test_there_are_examples() -> None:
    """At least the picture and the web application."""
    assert {"picture", "webapp"} <= set(FOLDERS)


@pytest.mark.parametrize("name", FOLDERS)
def test_example(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """All tests of an example pass, none is skipped, and no namespace remains."""
    if name in NEED_ROOT and os.geteuid() != 0:
        pytest.skip(f"needs root: {NEED_ROOT[name]}")
    if name in NEED_TUN and not os.access(TUN, os.R_OK | os.W_OK):
        pytest.skip(f"needs root: {TUN} may not be opened by this user")
    shutil.copytree(EXAMPLES / name, tmp_path / name)
    mode = request.config.getoption("netns_mode") or "auto"
    options = [f"--netns-mode={mode}", "--netns-unavailable=fail", "-o", "netns_leaks=error", "-W", "error", "-rs"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", *options]
    done = subprocess.run(command, cwd=tmp_path / name, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout

"""gevent and eventlet: with their patches no thread can enter a namespace, which is reported at once."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PATCHES = {
    "gevent": "import gevent.monkey; gevent.monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}
SUITE = """
def test_run(netns_pair):
    netns_pair["red"].run("true")

def test_plain():
    pass
"""
RUN = """
{patch}
import os, sys
import pytest

before = os.stat("/proc/self/ns/net").st_ino
status = pytest.main(["-q", "-rs", "-p", "no:cacheprovider", "-p", "netns", {options} "{file}"])
assert os.stat("/proc/self/ns/net").st_ino == before
sys.exit(status)
"""


@pytest.mark.parametrize("library", sorted(PATCHES))
def test_patched(library: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A test that needs a namespace fails with the reason and the remedy; nothing hangs, pytest's thread stays; others pass."""
    assert importlib.util.find_spec(library)  # not imported here: that would change how this process forks
    (tmp_path / "test_it.py").write_text(SUITE)
    options = '"--netns-mode=root", "--netns-unavailable=fail", "-p", "no:xdist",'
    if request.config.getoption("netns_mode") == "rootless":
        pytest.skip("needs root: without it the threads of gevent's hub keep the process from becoming rootless")
    script = RUN.format(patch=PATCHES[library], file=tmp_path / "test_it.py", options=options)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert "1 passed" in done.stdout, done.stderr
    assert f"{library} has patched this process" in done.stdout
    assert "started with ns.run and ns.start" in done.stdout
    assert done.returncode == 1

"""An ordinary user with uids for other users in /etc/subuid: programs run as other users, however pytest is started."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environments import IS_ROOT, OTHER, environment

pytestmark = pytest.mark.skipif(not IS_ROOT, reason="needs root: another /etc/subuid")

TEST = """
import os, pwd
import pytest

def test_users(netns):
    red = netns.add_namespace("red", private=["/srv"])
    account = pwd.getpwnam("www-data")
    red.call(os.chown, "/srv", account.pw_uid, account.pw_gid)
    assert red.run("id -un", user="www-data", cwd="/").stdout == "www-data\\n"
    red.run("touch /srv/file", user="www-data", cwd="/")
    assert red.run("stat -c %U:%G /srv/file", cwd="/").stdout == "www-data:www-data\\n"
    red.run("ping -c1 -W2 red", user="www-data", cwd="/")
    red.run("mount -t tmpfs tmpfs /srv", cwd="/")
"""
ALONE = """
import pytest
from pytest_netns import UnavailableError

def test_no_users(netns):
    red = netns.add_namespace("red")
    with pytest.raises(UnavailableError, match="cannot use other users"):
        red.run("id", user="www-data")
    red.run("id", user=__import__("os").geteuid())
"""
SUBIDS = "printf '%s\\n' '{who}:100000:65536' > subids && mount --bind subids /etc/subuid && mount --bind subids /etc/subgid && "


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can reach: pytest's own are for one user only."""
    with tempfile.TemporaryDirectory(prefix="netns-users-", dir="/tmp") as directory:
        yield Path(directory)


def run_as_other(directory: Path, test: str, who: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a test file as an ordinary user, with a line of some user in /etc/subuid."""
    (directory / "test_it.py").write_text(test)
    directory.chmod(0o777)
    script = SUBIDS.format(who=who) + 'exec setpriv --reuid="$0" --regid="$0" --clear-groups "$@"'
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "--netns-unavailable=fail", "test_it.py"]
    words: list[str] = []
    for word in command:
        words += [sys.executable, "-m", "pytest", *options] if word == "PYTEST" else [word]
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, str(OTHER), *words],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [
        ("PYTEST", "--netns-mode=rootless"),
        ("PYTEST", "--netns-mode=rootless", "-n1"),
        ("unshare", "--user", "--map-root-user", "--map-auto", "--net", "PYTEST"),
    ],
    ids=["rootless", "xdist", "unshare --map-auto"],
)
def test_programs_run_as_themselves(open_directory: Path, command: tuple[str, ...]) -> None:
    """``user=`` works, files belong to that user, and mount(8) still runs for the user who has started pytest."""
    done = run_as_other(open_directory, TEST, str(OTHER), *command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_without_a_line_in_subuid(open_directory: Path) -> None:
    """Everything else works, and the error of ``user=`` names what is missing."""
    done = run_as_other(open_directory, ALONE, "4711", "PYTEST", "--netns-mode=rootless")
    assert done.returncode == 0, done.stdout + done.stderr

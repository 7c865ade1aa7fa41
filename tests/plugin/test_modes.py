"""One small suite passes, with the same results, however pytest is run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environments import (
    IS_ROOT,
    NO_CACHE,
    OTHER,
    ROOT,
    Argv,
    as_root,
    environment,
    give,
    ordinary_user,
    run_pytest,
    shell,
    without_capabilities,
)

SUITE = """
import os
import socket

import pytest


@pytest.mark.netns
def test_body_inside():
    with socket.create_server(("127.0.0.1", 80)):
        assert [name for _, name in socket.if_nameindex()] == ["lo"]


@pytest.mark.netns("pair", enter="red")
def test_marker(netns):
    with socket.create_server(("192.168.15.1", 443)):
        assert netns["blue"].call(lambda: socket.create_connection(("192.168.15.1", 443), 5).getpeername()[1]) == 443


def test_programs(netns):
    assert netns.host.run(["sh", "-c", "readlink /proc/self/ns/net"]).stdout != os.readlink("/proc/thread-self/ns/net")
    assert netns.host.run(["hostname"]).stdout.strip() == "host"
    assert len([name for name in netns.host.run(["ls", "/proc"]).stdout.split() if name.isdigit()]) <= 3


def test_who_i_am(netns):
    assert str(os.geteuid()) == netns.host.run(["id", "-u"]).stdout.strip() == os.environ["EXPECTED_UID"]
"""
PASSED = 4
PICTURE = (
    Path(__file__).parents[1] / "kernel" / "test_picture.py"
)  # packets, NAT, programs, mount views: all that exists
PICTURE_PASSED = 14
SUPPORT = [ROOT / "tests" / name for name in ("__init__.py", "support/__init__.py", "support/traffic.py")]
# The processes may be root only by name, so file permissions are checked with a real user's uid and gid.
PERMISSIONS = """
import os

import pytest


def test_files_mean_what_they_did(netns, tmp_path):
    own = tmp_path / "own"
    own.write_text("mine")
    assert (own.stat().st_uid, own.stat().st_gid) == (os.geteuid(), os.getegid()) == (int(os.environ["EXPECTED_UID"]),) * 2
    assert netns.host.run(["stat", "-c", "%u:%g", str(own)]).stdout.strip() == "{0}:{0}".format(os.geteuid())
    own.chmod(0)
    with pytest.raises(PermissionError):
        own.read_text()
    assert "Permission denied" in netns.host.run(["cat", str(own)], check=False).stderr
    with pytest.raises(PermissionError):  # the machine's root is not mapped in there
        os.chown("/etc/passwd", os.geteuid(), -1)
    with pytest.raises(PermissionError):
        open("/etc/netns-test", "w")
"""
UNSHARE = ["unshare", "--user", "--map-root-user", "--net"]
KEEP = ["unshare", "--user", "--map-current-user", "--keep-caps", "--net"]
# The machine's own sudo, with a rule for the ordinary user that is visible only to this command.
SUDOERS = f"""
mount -t tmpfs -o mode=755 tmpfs /etc/sudoers.d
echo '#{OTHER} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/pytest-netns
"""
PASSED_ON = "EXPECTED_UID,PYTEST_DEBUG_TEMPROOT,PYTHONPATH,PYTHONDONTWRITEBYTECODE,COLUMNS"
SUDO = ["unshare", "--mount", *shell(SUDOERS), *ordinary_user(), "sudo", "-n", f"--preserve-env={PASSED_ON}"]
MODES: dict[str, tuple[Argv, tuple[str, ...], int]] = {
    "root": (as_root(), (), 0),
    "root, rootless": (as_root(), ("--netns-mode=rootless",), 0),
    "sudo": (SUDO, (), 0),
    "unshare --map-root-user": ([*ordinary_user(), *UNSHARE], (), 0),
    "unshare --map-current-user --keep-caps": ([*ordinary_user(), *KEEP], (), -1),
    "rootless": (ordinary_user(), ("--netns-mode=rootless",), -1),
    "root without CAP_SYS_ADMIN": (without_capabilities("sys_admin"), ("--netns-mode=rootless",), 0),
}
AUTO: dict[str, tuple[Argv, int]] = {
    "ordinary user": (ordinary_user(), -1),
    "root without CAP_SYS_ADMIN": (without_capabilities("sys_admin"), 0),
}


@pytest.fixture
def suite() -> Iterator[Path]:
    """A directory that any user can read, with the suite in it."""
    directory = give(Path(tempfile.mkdtemp(prefix="netns-modes.")))
    (directory / "test_suite.py").write_text(SUITE)
    yield directory
    shutil.rmtree(directory)


def user_environment(suite: Path, uid: int) -> dict[str, str]:
    """The environment of a run that believes to be this user; -1: the ordinary user."""
    expected = (suite.stat().st_uid if IS_ROOT else os.geteuid()) if uid < 0 else uid
    return environment(EXPECTED_UID=str(expected), PYTEST_DEBUG_TEMPROOT=str(suite))


@pytest.mark.parametrize("workers", [(), ("-n", "4")], ids=["one process", "xdist"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_same_results(mode: str, workers: tuple[str, ...], suite: Path) -> None:
    """The same tests pass for any user, however the namespaces are created: including the whole picture."""
    if mode == "sudo" and not IS_ROOT:
        pytest.skip("needs root: to let an ordinary user use sudo")
    shutil.copy(PICTURE, suite)
    for file in SUPPORT:
        place = suite / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    prefix, options, uid = MODES[mode]
    outcome = run_pytest(prefix, suite, *options, *workers, env=user_environment(suite, uid))
    assert outcome.counts == {"passed": PASSED + PICTURE_PASSED}, outcome.output


@pytest.mark.parametrize("who", AUTO)
def test_auto_takes_a_user_namespace_where_all_tests_use_netns(who: str, suite: Path) -> None:
    """Without privilege nothing needs to be configured, unless a test would lose the host's network."""
    prefix, uid = AUTO[who]
    outcome = run_pytest(prefix, suite, env=user_environment(suite, uid))
    assert outcome.counts == {"passed": PASSED}, outcome.output


def test_auto_leaves_tests_that_do_not_use_netns_alone(suite: Path) -> None:
    """One test without netns keeps the host's network; the others are skipped with the remedy."""
    (suite / "test_other.py").write_text("def test_other(): pass\n")
    outcome = run_pytest(ordinary_user(), suite, env=user_environment(suite, -1))
    assert outcome.counts == {"passed": 1, "skipped": PASSED}, outcome.output
    assert outcome.output.count("remedy: use --netns-mode=rootless") == 1
    assert f"SKIPPED [{PASSED}]" in outcome.output


def test_auto_under_xdist_says_what_to_do(suite: Path) -> None:
    """A worker cannot change its user namespace; its tests are skipped and the controller shows the remedy, once."""
    outcome = run_pytest(ordinary_user(), suite, "-n", "2", env=user_environment(suite, -1))
    assert outcome.counts == {"skipped": PASSED}, outcome.output
    assert outcome.output.count("remedy: ") == 1
    assert "remedy: set --netns-mode=rootless" in outcome.output


def test_rootless_keeps_the_user_and_what_files_allow(suite: Path) -> None:
    """The same uid and gid, in Python and in programs; forbidden actions stay forbidden."""
    (suite / "test_suite.py").write_text(PERMISSIONS)
    outcome = run_pytest(ordinary_user(), suite, "--netns-mode=rootless", env=user_environment(suite, -1))
    assert outcome.counts == {"passed": 1}, outcome.output


def test_mode_root_without_privilege_is_refused(suite: Path) -> None:
    """A requested mode is not replaced by another."""
    outcome = run_pytest(ordinary_user(), suite, "--netns-mode=root", env=user_environment(suite, -1))
    assert outcome.counts == {"skipped": PASSED}, outcome.output
    assert "this process lacks CAP_SYS_ADMIN" in outcome.output


@pytest.mark.skipif(not IS_ROOT, reason="needs root: to be several users")
def test_several_users_at_once(suite: Path) -> None:
    """Runs of different users, at the same time and with the same names, do not interfere."""
    argv = [sys.executable, "-m", "pytest", "-q", NO_CACHE, "--netns-mode=rootless", str(suite)]
    runs = []
    for uid in (0, 65533, 65534, 65534):
        user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        env = environment(EXPECTED_UID=str(uid), PYTEST_DEBUG_TEMPROOT=str(suite))
        runs.append(
            subprocess.Popen([*user, *argv], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0, 0], outputs


def test_the_pytest_process_itself_stays_outside(suite: Path) -> None:
    """In mode root nothing about the pytest process changes: neither its namespaces nor its capabilities."""
    (suite / "test_suite.py").write_text(
        "import os\n"
        "def state():\n"
        "    kinds = sorted(os.listdir('/proc/self/ns'))\n"
        "    caps = [line for line in open('/proc/self/status') if line.startswith(('Cap', 'Uid', 'Gid'))]\n"
        "    return [os.readlink(f'/proc/self/ns/{kind}') for kind in kinds], caps\n"
        "BEFORE = state()\n"
        "def test_used(netns_nat): netns_nat['red'].run('true')\n"
        "def test_same(): assert state() == BEFORE\n"
    )
    outcome = run_pytest(as_root(), suite, "--netns-mode=root", env=user_environment(suite, 0))
    assert outcome.counts == {"passed": 2}, outcome.output

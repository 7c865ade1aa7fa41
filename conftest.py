"""For the project's own suite: checks at its end that it has not changed the machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["pytester"]

RUN_MARK = "PYTEST_NETNS_SUITE"  # in the environment of all processes of the suite
HOST_COMMANDS = (
    "ip -o link",
    "ip -o address",
    "ip route show table all",
    "ip -6 route show table all",
    "ip rule",
    "ip -6 rule",
    "ip neighbour show nud permanent",
    "nft list ruleset",
    "iptables-save",
    "ip6tables-save",
    "iptables-legacy-save",
    "ip6tables-legacy-save",
)
# Times, counters and values that the kernel changes by itself.
COMMENT = re.compile(r"^#.*\n?", re.M)
COUNTERS = re.compile(r"packets \d+ bytes \d+|\[\d+:\d+\]|(valid_lft|preferred_lft|expires) \w+")
SELF_CHANGING = {"nf_conntrack_count", "flow_table_count"}


# Examples have no time limit on a busy machine; and the user who runs the suite may lack write permission here.
hypothesis.settings.register_profile("suite", deadline=None, database=None)
hypothesis.settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault(RUN_MARK, uuid.uuid4().hex)
    # Under nohup, or in the background of a script, these signals are ignored, in all child processes too.
    for number, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)
    # The duration of an example only depends on the machine.
    hypothesis.settings.register_profile(
        "netns", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("netns")


@pytest.fixture(scope="session", autouse=True)
def machine_as_before(request: pytest.FixtureRequest) -> Iterator[None]:
    """The host's network and mounts are unchanged, and no process of this run remains."""
    before = _host_state()
    yield
    changed = _changed(before, _host_state())
    assert not changed, f"the suite has changed the host's own network or mounts (before, after): {changed}"
    # Workers of one xdist run share the mark and end at different times, so the controller checks processes.
    if not hasattr(request.config, "workerinput"):
        assert not _left_over(), "processes of this run are left"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput") or not session.config.getoption("numprocesses", None):
        return
    left = _left_over()
    if left:
        session.config.get_terminal_writer().line(f"processes of this run are left: {left}", red=True)
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR  # a status for which there is no second try


def _host_state() -> dict[str, str]:
    state = {}
    for command in HOST_COMMANDS:
        argv = command.split()
        if shutil.which(argv[0]):
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            state[command] = COUNTERS.sub("", COMMENT.sub("", done.stdout))
    # A lab's addresses must not appear outside; other neighbours of the real network do not matter.
    neighbours = subprocess.run(["ip", "neighbour"], capture_output=True, text=True, check=False).stdout
    state["neighbours"] = "\n".join(
        line for line in neighbours.splitlines() if line.startswith(("192.168.15.", "fd00:15:"))
    )
    state["mounts"] = Path("/proc/self/mounts").read_text()
    state["/run/netns"] = str(sorted(Path("/run/netns").glob("*")))
    # New settings come with a module or an interface; existing ones must keep their value.
    state.update({str(path): _read(path) for path in sorted(Path("/proc/sys/net").rglob("*")) if _is_setting(path)})
    return state


def _changed(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {key: (value, after.get(key, "")) for key, value in before.items() if after.get(key, "") != value}


def _is_setting(path: Path) -> bool:
    return path.is_file() and path.name not in SELF_CHANGING


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _left_over() -> list[str]:
    mark = f"{RUN_MARK}={os.environ[RUN_MARK]}".encode()
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) not in (os.getpid(), os.getppid()):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
            except OSError:
                continue
    return found

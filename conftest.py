"""For the project's own suite: the machine must be after it as it was before, which is checked at its end."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

RUN_MARK = "PYTEST_NETNS_SUITE"  # in the environment of everything the suite starts
HOST_COMMANDS = (
    "ip -o link",
    "ip -o address",
    "ip route show table all",
    "ip -6 route show table all",
    "ip rule",
    "nft list ruleset",
)


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault(RUN_MARK, uuid.uuid4().hex)


@pytest.fixture(scope="session", autouse=True)
def machine_as_before(request: pytest.FixtureRequest) -> Iterator[None]:
    """The host's network and mounts are unchanged, and no process of this run is left."""
    before = _host_state()
    yield
    after = _host_state()
    assert after == before, "the suite has changed the host's own network or mounts"
    # Workers of one xdist run share the mark and end at different times, so the controller checks processes.
    if not hasattr(request.config, "workerinput"):
        assert not _left_over(), "processes of this run are left"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput") or not session.config.getoption("numprocesses", None):
        return
    left = _left_over()
    if left:
        session.config.get_terminal_writer().line(f"processes of this run are left: {left}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _host_state() -> dict[str, str]:
    state = {}
    for command in HOST_COMMANDS:
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        # Lifetimes and counters of what others do on this machine are not ours.
        state[command] = "\n".join(line for line in done.stdout.splitlines() if "valid_lft" not in line)
    state["mounts"] = Path("/proc/self/mounts").read_text()
    state["/run/netns"] = str(sorted(Path("/run/netns").glob("*")))
    settings = Path("/proc/sys/net/ipv4").glob("*")
    state["sysctls"] = "\n".join(f"{path}={_read(path)}" for path in sorted(settings) if path.is_file())
    return state


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

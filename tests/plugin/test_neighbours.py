"""Together with the plugins that suites use, and with the oldest and the newest pytest.

Select them with ``-m neighbours``, exclude them with ``-m 'not neighbours'``: the first run installs packages.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_netns.kernel.system import privileges
from tests.support import neighbour_environments
from tests.support.environments import Outcome, as_root, environment, give, ordinary_user, run_pytest

pytestmark = pytest.mark.neighbours

SUITE = """
import socket

import pytest


@pytest.mark.parametrize("number", range(2))
def test_pair(netns_pair, number):
    netns_pair["red"].run("ping -c1 -W5 192.168.15.2")


@pytest.mark.netns("nat", enter="red")
def test_inside(netns):
    with netns["outside"].socket() as listener:
        listener.bind(("192.168.1.3", 80))
        listener.listen()
        with socket.create_connection(("192.168.1.3", 80), 5):
            connection, (address, _) = listener.accept()
            connection.close()
    assert address == "192.168.1.2"
"""
COUNT = 3


def environment_of(requirements: tuple[str, ...]) -> str:
    """The Python of an environment with these packages and the project."""
    if not neighbour_environments.is_made(requirements):
        if privileges.in_own_user_namespace():
            pytest.skip(
                "needs packages, and there is no way out: first run python tests/support/neighbour_environments.py"
            )
        neighbour_environments.make(requirements)
    return str(neighbour_environments.python_of(requirements))


@pytest.fixture(scope="session")
def python() -> str:
    """An environment with all neighbours and the newest pytest."""
    return environment_of(neighbour_environments.ALL_AT_ONCE)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that any user can use."""
    path = give(Path(tempfile.mkdtemp(prefix="netns-neighbours.")))
    yield path
    shutil.rmtree(path)


def run(python: str, directory: Path, suite: str, *options: str, who: str = "root") -> Outcome:
    """Run a suite with the neighbours, as root or as an ordinary user in mode rootless."""
    (directory / "test_suite.py").write_text(suite)
    if who == "rootless":
        options = ("--netns-mode=rootless", *options)
    prefix = as_root() if who == "root" else ordinary_user()
    env = environment(every_plugin=True, PYTEST_DEBUG_TEMPROOT=str(directory), HOME=str(directory))
    return run_pytest(prefix, directory, *options, python=python, env=env)


def check(
    python: str, directory: Path, suite: str, *options: str, passed: int, who: str = "root", **counts: int
) -> None:
    """Run a suite, and compare the results of its tests."""
    outcome = run(python, directory, suite, *options, who=who)
    assert outcome.counts == {"passed": passed, **counts}, outcome.output


STRICT = ["--strict-markers", "--strict-config", "-W", "error", "--import-mode=importlib"]
LOOP_SCOPE = ["-o", "asyncio_default_fixture_loop_scope=function"]  # pytest-asyncio warns if it is not set
OPTIONS = {
    "as they come": ([], "rootless"),
    "strict": ([*STRICT, *LOOP_SCOPE], "root"),
    "timeout by signal, reruns, coverage": (
        ["--timeout=60", "--timeout-method=signal", "--reruns=2", "--cov=test_suite", "--cov-report="],
        "root",
    ),
    "timeout by thread, html": (
        ["--timeout=60", "--timeout-method=thread", "--html=report.html", "--self-contained-html"],
        "rootless",
    ),
    "xdist, reruns, coverage": (["-n", "2", "--reruns=1", "--cov=test_suite", "--cov-report="], "rootless"),
}


@pytest.mark.parametrize(("options", "who"), OPTIONS.values(), ids=OPTIONS)
def test_neighbours_change_nothing(python: str, directory: Path, options: list[str], who: str) -> None:
    """With all these plugins loaded, and each in use, the same tests pass."""
    check(python, directory, SUITE, "--count=2", *options, passed=2 * COUNT, who=who)


def test_neighbours_rerun_in_a_fresh_network(python: str, directory: Path) -> None:
    """What a failed attempt has built is removed before the test runs again."""
    suite = """
ATTEMPTS = []
def test_flaky(netns):
    ATTEMPTS.append(len(netns))
    netns.add_namespace("red").run("true")
    assert ATTEMPTS == [0, 0, 0]
"""
    check(python, directory, suite, "--reruns=2", passed=1, rerun=2)


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_neighbours_timeout_in_a_namespace(python: str, directory: Path, method: str) -> None:
    """A hanging test inside is ended by either method, and so is what it has started."""
    note = directory / "pid"
    suite = f"""
import pathlib, threading
import pytest
@pytest.fixture
def sleeper(netns):
    sleeper = netns.host.popen(["sleep", "1000"])
    pathlib.Path("{note}").write_text(str(sleeper.pid))
@pytest.mark.netns
@pytest.mark.timeout(1, method="{method}", func_only=True)
def test_hangs(sleeper):
    threading.Event().wait()
"""
    outcome = run(python, directory, suite)
    assert "Timeout" in outcome.output
    assert outcome.status == 1
    deadline = subprocess.run(["timeout", "10", "tail", f"--pid={note.read_text()}", "-f", "/dev/null"], check=False)
    assert deadline.returncode == 0, "the program is still there"


ASYNC = """
import asyncio
import socket

import anyio
import pytest
import trio


@pytest.mark.asyncio
@pytest.mark.netns("pair", enter="red")
async def test_asyncio(netns):
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "192.168.15.1", 80)
    reader, writer = await asyncio.open_connection("192.168.15.1", 80)
    assert await reader.read() == b""
    writer.close()
    server.close()
    assert await asyncio.to_thread(lambda: netns["blue"].run("ping -c1 -W5 192.168.15.1").returncode) == 0


@pytest.mark.anyio
@pytest.mark.netns
async def test_anyio(anyio_backend):
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=80)
    async with listener, await anyio.connect_tcp("127.0.0.1", 80):
        pass


@pytest.mark.trio
@pytest.mark.netns
async def test_trio():
    listeners = await trio.open_tcp_listeners(80, host="127.0.0.1")
    stream = await trio.open_tcp_stream("127.0.0.1", 80)
    await stream.aclose()
    for listener in listeners:
        await listener.aclose()
"""


@pytest.mark.parametrize(("who", "options"), [("root", []), ("rootless", ["-n", "2"])], ids=["root", "rootless, xdist"])
def test_neighbours_asynchronous(python: str, directory: Path, options: list[str], who: str) -> None:
    """Coroutine tests of asyncio, anyio (on both) and trio run inside, including privileged ports."""
    check(python, directory, ASYNC, *options, passed=4, who=who)


OTHERS = """
import socket

import hypothesis
import pytest
from hypothesis import strategies


@hypothesis.settings(max_examples=10, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(port=strategies.integers(1, 1023))
@pytest.mark.netns
def test_every_port_is_free(netns, port):
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_subtests(netns_lan, subtests):
    done = []
    for name in ("red", "blue"):
        with subtests.test(name):
            netns_lan[name].run("ping -c1 -W5 192.168.15.5")
            done.append(name)
    assert done == ["red", "blue"]
"""


def test_neighbours_hypothesis_and_subtests(python: str, directory: Path) -> None:
    """Many examples share a test's network; subtests run in it."""
    check(python, directory, OTHERS, passed=2)


@pytest.mark.parametrize(
    "requirements", [neighbour_environments.OLDEST, neighbour_environments.NEWEST], ids=["oldest", "newest"]
)
def test_neighbours_pytest_versions(directory: Path, requirements: tuple[str, ...]) -> None:
    """The oldest supported pytest, and the newest."""
    check(environment_of(requirements), directory, SUITE, "-W", "error", "-n", "2", passed=COUNT)

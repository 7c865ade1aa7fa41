"""A test that uses a lab's addresses or names from outside every namespace is warned."""

from __future__ import annotations

import pytest

from tests.support.inner_runs import RunFile

HELPERS = """
import asyncio, contextlib, socket, subprocess

def connect(host):
    with contextlib.suppress(OSError):
        socket.create_connection((host, 80), timeout=0.2).close()

def send(host):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.sendto(b"x", (host, 53))
"""

MISTAKES = (
    HELPERS
    + """
def test_connects(netns_pair):
    connect("192.168.15.2")

def test_sends(netns_pair):
    send("192.168.15.2")

def test_uses_a_socket_that_was_made_outside(netns_pair):
    with socket.socket() as sock, netns_pair["red"], contextlib.suppress(OSError):
        sock.settimeout(0.2)
        sock.connect(("192.168.15.2", 80))

def test_from_asyncio(netns_pair):
    async def main():
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(asyncio.open_connection("192.168.15.2", 80), 0.2)
    asyncio.run(main())
"""
)

RIGHT = (
    HELPERS
    + """
import pytest

def test_inside(netns_pair):
    red, blue = netns_pair["red"], netns_pair["blue"]
    with blue.create_server(("", 80)), red:
        connect("192.168.15.2")
        connect("blue")
        send("192.168.15.2")

def test_sockets_of_a_namespace(netns_pair):
    red, blue = netns_pair["red"], netns_pair["blue"]
    with blue.create_server(("", 80)), red.socket() as sock:
        red.create_connection(("192.168.15.2", 80)).close()
        red.call(connect, "blue")
        sock.connect(("192.168.15.2", 80))

@pytest.mark.netns("pair", enter="red")
def test_marked():
    connect("192.168.15.2")
    subprocess.run(["true", "192.168.15.2"])

def test_elsewhere(netns_pair):
    connect("127.0.0.1")
    connect("localhost")
    subprocess.run(["true", "192.168.15.22"])

def test_after(netns_factory):
    connect("192.168.15.2")
"""
)

FAILING = (
    HELPERS
    + """
def test_by_name(netns_pair):
    connect("blue")
    assert 0

def test_by_program(netns_pair):
    subprocess.run(["echo", "http://192.168.15.2:80/"])
    assert 0

def test_elsewhere(netns_pair):
    subprocess.run(["echo", "blue", "192.168.15.22"])
    netns_pair["red"].run(["echo", "192.168.15.2"])
    assert 0
"""
)


@pytest.fixture
def run(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> RunFile:
    """Runs a test file in an inner pytest, in the mode of this one, in an isolated network."""
    mode = request.config.getoption("netns_mode") or "auto"

    def run(text: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--netns-mode={mode}", *arguments)

    return run


@pytest.mark.netns
def test_a_connection_from_outside_is_warned_about(run: RunFile) -> None:
    """A connection or packet to an address of the lab from a socket created outside causes a warning, whether the test passes or not."""
    result = run(MISTAKES)
    result.assert_outcomes(passed=4, warnings=4)
    result.stdout.fnmatch_lines(
        ["*OutsideNamespaceWarning: 192.168.15.2 belongs to blue, but the socket was created outside*"]
    )
    run(MISTAKES, "-W", "error::pytest_netns.OutsideNamespaceWarning").assert_outcomes(failed=4)


@pytest.mark.netns
def test_what_is_inside_or_elsewhere_is_not(run: RunFile) -> None:
    """There is no warning inside, with a socket of a namespace, for other addresses, or without a lab with the address."""
    run(RIGHT, "-W", "error").assert_outcomes(passed=5)


@pytest.mark.netns
def test_the_report_of_a_failed_test_says_what_was_asked_outside(run: RunFile) -> None:
    """Names, and addresses given to programs; these may be intended, so passing tests are not warned."""
    result = run(FAILING)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*netns: accessed from outside of every namespace*",
            "blue is a namespace, but it was looked up outside of every namespace: *",
            "*netns: accessed from outside of every namespace*",
            "192.168.15.2 belongs to blue, but echo http://192.168.15.2:80/ ran outside of every namespace: *",
        ]
    )
    assert result.stdout.str().count("accessed from outside") == 2

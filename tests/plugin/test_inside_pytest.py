"""The marker with other features of pytest: wider scopes, doctests, unittest, capture, logging, the debugger."""

from __future__ import annotations

import re
import signal
import sys

import pytest

from pytest_netns import Lab
from tests.support.inner_runs import CheckFile

HELPERS = """
import os, pytest

def network():
    return os.stat("/proc/thread-self/ns/net").st_ino

OUTSIDE = network()
"""


@pytest.fixture
def run(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> CheckFile:
    """Run a test file, in the mode of this run, in which all must pass by default."""
    mode = request.config.getoption("netns_mode") or "auto"

    def run(code: str, /, *arguments: str, **outcomes: int) -> pytest.RunResult:
        pytester.makeconftest("")
        pytester.makepyfile(test_it=HELPERS + code)
        result = pytester.runpytest_subprocess(f"--netns-mode={mode}", "--netns-unavailable=fail", "-ra", *arguments)
        result.assert_outcomes(**(outcomes or {"passed": code.count("def test_")}))
        return result

    return run


def test_labs_of_wider_scope(run: CheckFile) -> None:
    """A module's and a session's lab are created once, by the factory, outside any marked body, and closed at the end."""
    run("""
made = []

@pytest.fixture(scope="session")
def backbone(netns_factory):
    with netns_factory.lab("pair") as lab:
        made.append(network())
        yield lab

@pytest.fixture(scope="module")
def server(backbone):
    with backbone["blue"].create_server(("", 80)) as listener:
        yield listener

@pytest.mark.netns
def test_first(server, backbone):
    assert network() != OUTSIDE
    with backbone["red"].create_connection(("blue", 80)) as client:
        assert client.getpeername()[1] == 80

def test_second(server, backbone):
    with backbone["red"].create_connection(("blue", 80)):
        assert network() == OUTSIDE
    assert made == [OUTSIDE]
""")


def test_fixtures_asked_for_by_name_in_the_body(run: CheckFile) -> None:
    """getfixturevalue in a marked body: a fixture of wider scope is set up outside, a function-scoped one inside."""
    run("""
@pytest.fixture(scope="module")
def wide():
    return network()

@pytest.fixture
def own():
    return network()

@pytest.mark.netns
def test_marked(request):
    inside = network()
    assert request.getfixturevalue("wide") == OUTSIDE
    assert request.getfixturevalue("own") == inside != OUTSIDE
    assert network() == inside
    assert request.getfixturevalue("netns").host.name == "host"

def test_unmarked(request):
    lab = request.getfixturevalue("netns_pair")
    with lab["red"]:
        assert network() != OUTSIDE
    assert request.getfixturevalue("wide") == OUTSIDE == network()
""")


def test_asked_for_by_name_where_there_are_no_namespaces(pytester: pytest.Pytester) -> None:
    """A test that requests a lab only in its body is skipped there, like one with the fixture as argument."""
    pytester.makeconftest(
        """
        from pytest_netns import UnavailableError
        from pytest_netns.plugin import run

        def refuse():
            raise UnavailableError("network namespaces", "refused for this test", "nothing")

        run._try_namespace = refuse
        """
    )
    pytester.makepyfile("def test_plain(): pass\ndef test_dynamic(request): request.getfixturevalue('netns')")
    result = pytester.runpytest_subprocess("--netns-unavailable=skip", "--netns-mode=root", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*refused for this test*"])


def test_doctests(run: CheckFile, pytester: pytest.Pytester) -> None:
    """A doctest gets a lab by getfixture."""
    pytester.makefile(
        ".txt",
        test_example="""
        >>> lab = getfixture("netns_pair")
        >>> lab["red"].run("ping -c1 -W2 blue").returncode
        0
        >>> with lab["red"]:
        ...     import socket
        ...     socket.gethostbyname("blue")
        '192.168.15.2'
        """,
    )
    run("", "--doctest-glob=*.txt", passed=1)


def test_unittest_classes(run: CheckFile) -> None:
    """On a TestCase, as a whole or on a method, the marker makes the method and its setUp run inside, setUpClass outside."""
    run("""
import unittest

@pytest.mark.netns("pair", enter="red")
class Whole(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.made = network()

    def setUp(self):
        self.set_up = network()

    def test_inside(self):
        import socket
        self.assertEqual(self.made, OUTSIDE)
        self.assertNotEqual(self.set_up, OUTSIDE)
        self.assertEqual(network(), self.set_up)
        self.assertEqual(socket.gethostbyname("blue"), "192.168.15.2")

    def tearDown(self):
        self.assertEqual(network(), self.set_up)

class Single(unittest.TestCase):
    @pytest.mark.netns
    def test_marked(self):
        self.assertNotEqual(network(), OUTSIDE)

    def test_unmarked(self):
        self.assertEqual(network(), OUTSIDE)
""")


def test_classes(run: CheckFile) -> None:
    """A marker on a class applies to each method, each with its own network; a class's lab is shared by its methods."""
    run("""
seen = []

@pytest.mark.netns
class TestMarked:
    def test_a(self):
        seen.append(network())

    def test_b(self):
        assert network() not in (OUTSIDE, *seen)

class TestShared:
    @pytest.fixture(scope="class")
    def lab(self, netns_factory):
        with netns_factory.lab("pair") as lab:
            yield lab

    def test_a(self, lab):
        lab["red"].sysctl("net.ipv4.ip_forward", 1)

    def test_b(self, lab):
        assert lab["red"].sysctl("net.ipv4.ip_forward") == "1"
""")


def test_capture_and_logging(run: CheckFile) -> None:
    """Output and log records from inside are captured as usual, including those of programs and calls."""
    result = run(
        """
import logging, subprocess

@pytest.mark.netns
def test_fails(netns, capfd, caplog):
    subprocess.run(["echo", "from a program"])
    assert capfd.readouterr().out == "from a program\\n"
    netns.host.call(logging.getLogger("app").warning, "from a call")
    assert "from a call" in caplog.text
    print("from the body")
    logging.getLogger("app").error("from the log")
    assert 0
""",
        failed=1,
    )
    result.stdout.fnmatch_lines(["from the body*", "*from the log*"])


@pytest.mark.parametrize("how", ["--pdb", "breakpoint"])
def test_the_debugger_stops_inside(pytester: pytest.Pytester, request: pytest.FixtureRequest, how: str) -> None:
    """--pdb stops a marked test in its namespace, before teardown; breakpoint() in a block stops in the block's."""
    pytest.importorskip("pexpect")
    mode = request.config.getoption("netns_mode") or "auto"
    ending = "    assert 0\n" if how == "--pdb" else "    with netns['blue']:\n        breakpoint()\n"
    pytester.makepyfile(
        test_it=HELPERS
        + """
import socket

@pytest.mark.netns("pair", enter="red")
def test_stops(netns):
    red, blue = (netns[name].call(network) for name in ("red", "blue"))
"""
        + ending
    )
    arguments = "--pdb" if how == "--pdb" else ""
    child = pytester.spawn(
        f"{sys.executable} -m pytest --netns-mode={mode} --netns-unavailable=fail -p no:cacheprovider {arguments} test_it.py",
        expect_timeout=30,
    )
    child.expect(r"\(Pdb\)")
    child.sendline("print('in', {OUTSIDE: 'outside', red: 'red', blue: 'blue'}[network()])")
    child.expect("in (red|blue|outside)\r")
    assert isinstance(child.match, re.Match)
    assert child.match.group(1) == (b"red" if how == "--pdb" else b"blue")
    child.expect(r"\(Pdb\)")
    child.sendline("print('found', socket.gethostbyname('blue'))")
    child.expect("found 192.168.15.2\r")
    child.expect(r"\(Pdb\)")
    child.sendline("c")
    child.expect("1 failed" if how == "--pdb" else "1 passed")
    child.expect_exact(__import__("pexpect").EOF)
    child.close()


def test_an_await_in_a_block_of_an_async_test(run: CheckFile) -> None:
    """With pytest-asyncio: the marker applies to the whole loop; an await in a block fails the test with the reason."""
    pytest.importorskip("pytest_asyncio")
    result = run(
        """
import asyncio

@pytest.mark.netns("pair", enter="red")
@pytest.mark.asyncio
async def test_inside():
    await asyncio.sleep(0)
    assert network() != OUTSIDE
    assert await asyncio.to_thread(network) == network()
    found = await asyncio.get_running_loop().getaddrinfo("blue", 80)
    assert found[0][4][0] == "192.168.15.2"

@pytest.mark.asyncio
async def test_awaits(netns):
    with netns.host:
        await asyncio.sleep(60)
""",
        "-p",
        "asyncio",
        passed=1,
        failed=1,
    )
    result.stdout.fnmatch_lines(["*cannot await inside `with` namespace 'host'*ns.call_async*"])


def test_a_pytest_in_this_process_ends_nothing_of_ours(pytester: pytest.Pytester, netns: Lab) -> None:
    """Plugin tests run pytest in the same process: the supervisor and the signals belong to the outer one."""
    sleeper = netns.host.popen(["sleep", "1000"])
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    pytester.makepyfile("def test_inner(netns): netns.host.run('true')")
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert sleeper.poll() is None
    assert netns.host.run("pgrep sleep").stdout
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers

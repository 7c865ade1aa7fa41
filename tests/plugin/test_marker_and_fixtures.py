"""Fixtures and marker as in a user's suite: each test is an inner run of pytest."""

from __future__ import annotations

import pytest

from tests.support.inner_runs import CheckFile

WHERE = """
import os

def here():
    return os.readlink("/proc/thread-self/ns/net")

OUTSIDE = here()

def of(namespace):
    with namespace:
        return here()
"""
QUIET = ("-p", "no:cacheprovider", "-W", "error")
AFTER = """
import pytest
from where import OUTSIDE, here

@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish(nodeid):
    assert here() == OUTSIDE, f"the thread is not back after {nodeid}"
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> CheckFile:
    """Run a test file in an inner pytest, with strict markers; the thread must be back after every test."""
    pytester.makepyfile(where=WHERE)
    pytester.makeconftest(AFTER)

    def run_file(text: str, /, *arguments: str, **outcomes: int) -> pytest.RunResult:
        pytester.makepyfile("import os, pytest\nfrom where import OUTSIDE, here, of\n" + text)
        result = pytester.runpytest_subprocess("--strict-markers", "--strict-config", "-q", *QUIET, *arguments)
        found = {key: value for key, value in result.parseoutcomes().items() if key != "warnings"}
        assert found == outcomes, result.stdout.str()
        result.stdout.no_fnmatch_line("*INTERNALERROR*")
        return result

    return run_file


def test_fixtures(run: CheckFile) -> None:
    """Each fixture returns the lab of its name; without the marker, the body stays outside."""
    run(
        """
def test_empty(netns):
    assert len(netns) == 0
    assert here() == OUTSIDE

def test_pair(netns_pair, netns):
    assert netns_pair is netns
    assert [each.name for each in netns] == ["red", "blue"]
    assert netns["red"].run(["ping", "-c1", "-W2", "192.168.15.2"]).returncode == 0

def test_lan(netns_lan):
    assert {each.name for each in netns_lan} == {"red", "blue", "host"}
    assert netns_lan["red"].run(["ping", "-c1", "-W2", "192.168.15.5"]).returncode == 0
    assert [str(route.via) for route in netns_lan["red"].routes() if route.is_default] == ["192.168.15.5"]

def test_nat(netns_nat):
    assert {each.name for each in netns_nat} == {"red", "blue", "host", "outside"}
    assert netns_nat["red"].run(["ping", "-c1", "-W2", "192.168.1.3"]).returncode == 0

def test_another_lab(netns, netns_factory):
    with netns_factory.lab("pair") as lab:
        assert lab is not netns and "red" in lab
""",
        passed=5,
    )


def test_marker_in_every_form(run: CheckFile, pytester: pytest.Pytester) -> None:
    """Without arguments, with a picture, a value, a file, inline; entering host, another namespace, or none."""
    pytester.path.joinpath("office.toml").write_text(
        '[[veths]]\nends = [{ namespace = "gw", address = "10.0.0.1/24" }, { namespace = "pc", address = "10.0.0.2/24" }]\n'
    )
    run(
        """
from pytest_netns import Topology, VethEnd, VethSpec
PAIR = Topology(veths=[VethSpec(ends=[VethEnd("gw", address="10.0.0.1/24"), VethEnd("pc", address="10.0.0.2/24")])])

@pytest.mark.netns
def test_bare(netns):
    assert here() == of(netns.host) != OUTSIDE
    assert list(netns.host.interfaces) == ["lo"]

@pytest.mark.netns
def test_bare_without_the_fixture():
    assert here() != OUTSIDE

@pytest.mark.netns("nat", enter="red")
def test_picture(netns):
    assert here() == of(netns["red"])

@pytest.mark.netns("lan")
def test_picture_and_fixture(netns_lan):
    assert here() == of(netns_lan.host)

@pytest.mark.netns("pair", enter=None)
def test_outside(netns):
    assert here() == OUTSIDE and "red" in netns

@pytest.mark.netns(PAIR, enter="pc")
def test_value(netns):
    assert here() == of(netns["pc"])

@pytest.mark.netns("office.toml", enter="gw")
def test_file(netns):
    assert here() == of(netns["gw"])

@pytest.mark.netns(namespaces=["red", "blue"], subnet="192.168.15.0/24", masquerade=True, forward={8080: "blue:80"})
def test_inline(netns):
    assert here() == of(netns.host)
    assert "8080" in netns.host.ruleset()
""",
        passed=8,
    )


@pytest.mark.parametrize(
    ("marker", "hint"),
    [
        ("'nta'", "'nta' as picture: valid are 'pair', 'lan', 'nat'*"),
        ("'pair', 'lan'", "*marker netns takes one topology*"),
        ("'pair', subnet='10.0.0.0/8'", "*marker netns takes one topology*"),
        ("entre='red'", "*marker netns takes no argument 'entre'; valid are: *enter*"),
        ("'pair', enter='bleu'", "*cannot find namespace 'bleu' in this lab: *did you mean 'blue'*"),
        ("'no.toml'", "*cannot read topology 'no.toml': no such file in *"),
        ("5", "*cannot use 5 as topology: *"),
        ("namespaces=['a/b'], subnet='10.0.0.0/24'", "*'a/b'*1 to 63 characters*"),
    ],
)
def test_bad_marker_arguments(pytester: pytest.Pytester, marker: str, hint: str) -> None:
    """An invalid marker is an error that names the value and the valid ones, without a traceback of the plugin."""
    pytester.makepyfile(f"import pytest\n@pytest.mark.netns({marker})\ndef test_it(): pass")
    result = pytester.runpytest_subprocess("--strict-markers", "-p", "no:cacheprovider")
    assert result.ret != 0
    (result.stderr if result.ret == pytest.ExitCode.USAGE_ERROR else result.stdout).fnmatch_lines([f"*{hint}"])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_scopes(run: CheckFile) -> None:
    """Function fixtures are set up inside; those of wider scope outside, however they are requested; the same for finalizers."""
    run(
        """
made = {}

@pytest.fixture(scope="session")
def for_session():
    made["session"] = here()
    yield
    assert here() == OUTSIDE

@pytest.fixture(scope="module")
def for_module():
    made["module"] = here()
    yield
    assert here() == OUTSIDE

@pytest.fixture(scope="module")
def asked_for_late():
    made["late"] = here()
    yield
    assert here() == OUTSIDE

@pytest.fixture
def for_function():
    made["function"] = inside = here()
    yield
    assert here() == inside != OUTSIDE

@pytest.fixture(autouse=True)
def automatic():
    made["automatic"] = here()

@pytest.mark.netns("pair", enter="red")
def test_inside(for_function, for_module, for_session, netns, request):
    inside = of(netns["red"])
    assert here() == inside
    request.getfixturevalue("asked_for_late")
    assert here() == inside
    assert made == {"session": OUTSIDE, "module": OUTSIDE, "late": OUTSIDE, "function": inside, "automatic": inside}
""",
        passed=1,
    )


def test_a_marked_test_never_runs_outside(run: CheckFile, pytester: pytest.Pytester) -> None:
    """A parameter may replace `netns` or change its scope, a plugin may replace a test's item: inside, or an error."""
    pytester.makeconftest(
        """
import pytest

class Bare(pytest.Item):
    def runtest(self):
        raise AssertionError("ran outside")

class Files(pytest.File):
    def collect(self):
        item = Bare.from_parent(self, name="bare")
        item.add_marker("netns")
        yield item

def pytest_collect_file(parent, file_path):
    return Files.from_parent(parent, path=file_path) if file_path.suffix == ".bare" else None

@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session):
    session.items[:] = [anew(item) if item.name == "test_made_anew" else item for item in session.items]

def anew(item):
    return pytest.Function.from_parent(item.parent, name=item.name, callobj=item.obj)
"""
    )
    pytester.path.joinpath("it.bare").touch()
    result = run(
        """
@pytest.mark.netns
@pytest.mark.parametrize("netns", ["pair"], indirect=True, scope="module")
def test_of_a_module(netns):
    assert here() == of(netns.host) != OUTSIDE

@pytest.mark.netns
@pytest.mark.parametrize("netns", ["lan"], indirect=True)
def test_indirect(netns):
    assert here() == of(netns.host) != OUTSIDE

@pytest.mark.netns
@pytest.mark.parametrize("netns", ["not a lab"])
def test_replaced(netns):
    raise AssertionError("ran outside")

@pytest.mark.netns
def test_made_anew():
    assert here() != OUTSIDE
""",
        passed=3,
        errors=1,
        failed=1,
    )
    result.stdout.fnmatch_lines(["*a Bare does not use pytest's fixtures*"])
    result.stdout.no_fnmatch_line("*ran outside*")


def test_the_thread_is_back_whatever_happened(run: CheckFile) -> None:
    """After a pass, a failure, an error in a fixture's set-up or teardown, an open block: back outside."""
    run(
        """
@pytest.fixture
def broken():
    assert here() != OUTSIDE
    raise RuntimeError("set-up")

@pytest.fixture
def broken_after():
    yield
    raise RuntimeError("teardown")

@pytest.mark.netns
def test_passes(): assert here() != OUTSIDE

@pytest.mark.netns
def test_fails(): assert here() == OUTSIDE

@pytest.mark.netns
def test_set_up(broken): pass

@pytest.mark.netns
def test_teardown(broken_after): pass

@pytest.mark.netns
def test_skips(): pytest.skip("x")

def test_left_open(netns):
    netns.host.__enter__()

@pytest.mark.netns
def test_exits():
    raise SystemExit(3)

def test_after():
    assert here() == OUTSIDE
""",
        passed=4,
        failed=2,
        errors=2,
        skipped=1,
    )


def test_interrupt_in_the_body(pytester: pytest.Pytester) -> None:
    """Ctrl-C in a test inside a namespace ends the run as usual, with finalizers run and the thread back."""
    pytester.makepyfile(where=WHERE)
    pytester.makeconftest(
        """
from where import OUTSIDE, here

def pytest_unconfigure():
    print("back" if here() == OUTSIDE else "not back")
"""
    )
    pytester.makepyfile(
        """
import os, signal, pytest
from where import here

@pytest.fixture
def resource(netns):
    yield
    print("finalized inside", here())

@pytest.mark.netns("pair")
def test_interrupted(resource, netns):
    netns["red"].popen(["sleep", "600"])
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
"""
    )
    result = pytester.runpytest_subprocess("-s", "-p", "no:cacheprovider", timeout=30)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*finalized inside net:*", "*KeyboardInterrupt*"])
    result.stdout.fnmatch_lines(["back"])


def test_kinds_of_tests(run: CheckFile) -> None:
    """Functions, classes with the marker on class or module, parametrised tests: inside; unmarked ones outside."""
    run(
        """
@pytest.mark.netns("pair", enter="red")
class TestClass:
    @pytest.fixture(autouse=True)
    def prepare(self):
        self.prepared = here()

    def setup_method(self):
        self.method = here()

    def test_method(self, netns):
        assert here() == of(netns["red"]) == self.prepared

    @pytest.mark.netns("pair", enter="blue")
    def test_closest_marker_wins(self, netns):
        assert here() == of(netns["blue"])

    @pytest.mark.parametrize("number", [1, 2])
    def test_parametrised(self, number, netns):
        assert here() == of(netns["red"])

@pytest.mark.parametrize("name", ["red", "blue"])
@pytest.mark.netns("lan", enter=None)
def test_parametrised(name, netns):
    assert here() == OUTSIDE and name in netns

@pytest.mark.parametrize("inside", [False, pytest.param(True, marks=pytest.mark.netns), False])
def test_only_one_is_marked(inside, request):
    assert (here() != OUTSIDE) == inside == ("netns" in request.fixturenames)

def test_unmarked():
    assert here() == OUTSIDE
""",
        passed=10,
    )


def test_what_replaces_netns_comes_before_the_body_is_inside(run: CheckFile) -> None:
    """In a class or for all, it is set up outside and may build what the marker enters; everything else is set up inside."""
    run(
        """
@pytest.fixture
def before(request):
    assert here() == OUTSIDE
    return request

class TestReplaced:
    @pytest.fixture
    def netns(self, before, netns):
        netns.add_namespace("desk")
        yield netns
        assert here() == OUTSIDE

    @pytest.fixture
    def server(self):
        yield here()

    @pytest.mark.netns(enter="desk")
    def test_by_its_marker_alone(self, server):
        assert here() == server != OUTSIDE

    @pytest.mark.netns(enter="desk")
    def test_asked_for(self, server, netns):
        assert here() == server == of(netns["desk"])

@pytest.mark.netns
def test_not_replaced(netns):
    assert here() == of(netns.host)
""",
        passed=3,
    )


def test_asyncio_and_anyio(run: CheckFile, every_plugin: None, pytester: pytest.Pytester) -> None:
    """A coroutine test's event loop, its server and its clients are all inside; async fixtures too."""
    pytest.importorskip("pytest_asyncio")
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    run(
        """
import asyncio, pytest_asyncio, anyio

@pytest_asyncio.fixture
async def server():
    async def serve(reader, writer):
        writer.write(b"hello")
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(serve, "0.0.0.0", 80)
    yield here()
    server.close()
    await server.wait_closed()

@pytest.mark.netns
@pytest.mark.asyncio
async def test_asyncio(server, netns):
    assert server == here() == of(netns.host)
    reader, writer = await asyncio.open_connection("127.0.0.1", 80)
    assert await reader.read() == b"hello"
    writer.close()
    await writer.wait_closed()
    assert await asyncio.to_thread(here) == here()

@pytest.mark.netns("pair", enter="red")
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_anyio(anyio_backend, netns):
    assert here() == of(netns["red"])
    listener = await anyio.create_tcp_listener(local_host="192.168.15.1", local_port=80)
    async with listener, await anyio.connect_tcp("192.168.15.1", 80):
        pass

@pytest.mark.asyncio
async def test_unmarked(netns_pair):
    assert here() == OUTSIDE
    assert netns_pair["red"].run("true").returncode == 0
""",
        passed=4,
    )


def test_unittest(run: CheckFile) -> None:
    """unittest's test cases, including setUp and tearDown, run inside; the asyncio ones too."""
    run(
        """
import unittest

@pytest.mark.netns("pair", enter="red")
class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        assert here() == OUTSIDE

    def setUp(self):
        assert here() != OUTSIDE

    def tearDown(self):
        assert here() != OUTSIDE

    def test_one(self):
        assert here() != OUTSIDE

    def test_two(self):
        assert here() != OUTSIDE

@pytest.mark.netns
class AsyncCase(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        assert here() != OUTSIDE

    async def test_one(self):
        assert here() != OUTSIDE

class Unmarked(unittest.TestCase):
    def test_one(self):
        assert here() == OUTSIDE
""",
        passed=4,
    )


def test_doctest(pytester: pytest.Pytester) -> None:
    """A doctest gets a lab by getfixture."""
    pytester.makefile(
        ".txt",
        test_doc=""">>> netns_pair = getfixture("netns_pair")
>>> print(netns_pair["red"].run("hostname").stdout.strip())
red
""",
    )
    result = pytester.runpytest_subprocess(*QUIET)
    result.assert_outcomes(passed=1)


def test_a_leak_is_an_error_where_warnings_are(pytester: pytest.Pytester) -> None:
    """A namespace that is kept alive is reported with its test and its holder, as an error under -W error."""
    pytester.makepyfile("kept = []\ndef test_keeps(netns):\n    kept.append(netns.add_namespace('red').socket())")
    result = pytester.runpytest_subprocess(*QUIET[:2], "-o", "netns_leaks=warn", "-W", "error")
    result.assert_outcomes(passed=1, errors=1)
    for words in ("test_keeps", "namespace 'red' is still alive 5 s after its lab was closed: socket"):
        assert words in result.stdout.str()
    assert result.ret == 1
    assert "Traceback" not in result.stderr.str()


def test_the_marker_is_registered(pytester: pytest.Pytester) -> None:
    """pytest --markers describes it, and --fixtures each fixture."""
    pytester.runpytest_subprocess("--markers").stdout.fnmatch_lines(["@pytest.mark.netns(topology=None, *"])
    result = pytester.runpytest_subprocess("--fixtures")
    for name in ("netns", "netns_pair", "netns_lan", "netns_nat", "netns_factory*"):
        result.stdout.fnmatch_lines([f"{name} -- *"])


def test_400_tests_in_parallel(pytester: pytest.Pytester) -> None:
    """With pytest -n 8, 400 tests that all use the same names, addresses and port 80 pass."""
    pytester.makepyfile(
        """
import os, socket, pytest

@pytest.mark.netns("pair", enter="blue")
@pytest.mark.parametrize("number", range(400))
def test_same_everything(number, netns):
    with socket.create_server(("192.168.15.2", 80)) as server, netns["red"].socket() as client:
        client.settimeout(20)
        client.connect(("192.168.15.2", 80))
        client.sendall(str(number).encode())
        connection, peer = server.accept()
        with connection:
            assert connection.recv(10) == str(number).encode()
            assert peer[0] == "192.168.15.1"
"""
    )
    result = pytester.runpytest_subprocess("-n", "8", "-q", "-p", "no:cacheprovider", "-o", "netns_leaks=error")
    result.assert_outcomes(passed=400)

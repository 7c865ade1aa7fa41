"""Where the parts of a marked test run, and where pytest's thread is after a test that did not end normally."""

from __future__ import annotations

import pytest

HELPERS = """
import os

def network():
    return os.stat("/proc/thread-self/ns/net").st_ino

OUTSIDE = network()
"""
RECORDER = (
    HELPERS
    + """
import pytest

def pytest_runtestloop():  # before the first test a run without root has moved to a new namespace
    global OUTSIDE
    OUTSIDE = network()

def note(what):
    print("NOTE", what, "outside" if network() == OUTSIDE else "inside")

@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    note(f"setup of {fixturedef.argname}")
    return (yield)

def pytest_fixture_post_finalizer(fixturedef):
    note(f"finalizer of {fixturedef.argname}")

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    note("call")
    return (yield)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call):
    note(f"report of {call.when}")
    return (yield)

def pytest_runtest_logreport(report):
    note(f"log of {report.when}")
"""
)
MARKED = """
import pytest
from conftest import note

@pytest.fixture(scope="class")
def wide():
    note("class fixture begins")
    yield
    note("class fixture ends")

@pytest.fixture
def own(request):
    note("own fixture begins")
    request.addfinalizer(lambda: note("finalizer in own fixture"))
    yield
    note("own fixture ends")

@pytest.fixture
def failing(own):
    note("failing fixture")
    raise ValueError

@pytest.mark.netns
class TestMarked:
    def setup_method(self):
        note("setup_method")

    def teardown_method(self):
        note("teardown_method")

    def test_passes(self, wide, own):
        note("body")

    def test_fails(self, own):
        assert note("body")

    def test_error(self, failing):
        pass
"""
INSIDE = {
    "own fixture begins",
    "own fixture ends",
    "finalizer in own fixture",
    "failing fixture",
    "setup_method",
    "teardown_method",
    "body",
}


def run(pytester: pytest.Pytester, request: pytest.FixtureRequest, *arguments: str) -> pytest.RunResult:
    """Run the tests in the mode of this run."""
    mode = request.config.getoption("netns_mode") or "auto"
    return pytester.runpytest_subprocess(f"--netns-mode={mode}", "--netns-unavailable=fail", "-s", "-ra", *arguments)


def test_hooks_of_others_run_outside(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    """Only the body and function-scoped fixtures of a marked test run inside, set-up and teardown; no hook does."""
    pytester.makeconftest(RECORDER)
    pytester.makepyfile(MARKED)
    result = run(pytester, request)
    result.assert_outcomes(passed=1, failed=1, errors=1)
    notes = [line.partition("NOTE ")[2].rsplit(" ", 1) for line in result.outlines if "NOTE " in line]
    assert {what for what, where in notes if where == "inside"} == INSIDE
    assert not {what for what, where in notes if where == "outside"} & INSIDE
    assert {"class fixture begins", "class fixture ends", "log of call", "report of setup"} <= {
        what for what, _ in notes
    }


LEFT = (
    HELPERS
    + """
import pytest

@pytest.fixture(scope="session")
def lab(netns_factory):
    with netns_factory.lab("pair") as lab:
        yield lab

@pytest.fixture(scope="module")
def in_red(lab):
    with lab["red"]:
        yield

def test_enters(lab):
    lab["red"].__enter__()

def test_next():
    assert network() == OUTSIDE

@pytest.fixture
def enters(lab):
    lab["blue"].__enter__()

def test_whose_fixture_enters(enters):
    pass

def test_after():
    assert network() == OUTSIDE

def test_moves_by_itself(lab):
    from pytest_netns.kernel.system import syscalls

    syscalls.setns(lab["red"]._kernel.fd, syscalls.CLONE_NEWNET)

def test_after_that(netns):
    assert network() == OUTSIDE

def test_in_red(in_red, lab):
    assert network() == lab["red"].call(network)

def test_still_in_red(in_red, lab):
    assert network() == lab["red"].call(network)
"""
)


def test_no_test_begins_where_another_has_left_the_thread(
    pytester: pytest.Pytester, request: pytest.FixtureRequest
) -> None:
    """Blocks that a test or its fixture has not left are left after it; those of a wider fixture stay."""
    pytester.makepyfile(LEFT)
    run(pytester, request).assert_outcomes(passed=8)


def test_a_fixture_that_is_set_up_without_hooks_is_refused(
    pytester: pytest.Pytester, request: pytest.FixtureRequest
) -> None:
    """A plugin that sets up fixtures itself gets a clear error, also after a test whose fixtures pytest has set up."""
    pytester.makepyfile("""
        def test_as_ever(netns):
            netns.add_namespace("red")

        def test_without_hooks(request):
            next(request._fixturemanager.getfixturedefs("netns", request.node)[0].func())
    """)
    mode = request.config.getoption("netns_mode") or "auto"
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--netns-mode={mode}" if mode != "auto" else "-q")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["cannot set up netns: another plugin sets up this test's fixtures itself*"])


SESSION_OF_ANYIO = """
import os
import anyio
import pytest

def network():
    return os.stat("/proc/thread-self/ns/net").st_ino

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"

@pytest.fixture(scope="session")
async def loop_of_session(anyio_backend):
    yield

@pytest.mark.anyio
@pytest.mark.netns
async def test_first(netns, loop_of_session):
    assert await anyio.to_thread.run_sync(network) == network()

@pytest.mark.anyio
async def test_unmarked(loop_of_session):
    assert await anyio.to_thread.run_sync(network) == network()

@pytest.mark.anyio
@pytest.mark.netns
async def test_second(netns, loop_of_session):
    assert await anyio.to_thread.run_sync(network) == network()
"""


def test_a_marked_test_leaves_no_worker_of_anyio_to_others(
    pytester: pytest.Pytester, request: pytest.FixtureRequest
) -> None:
    """A worker first used by a marked test does the work of an unmarked one outside."""
    pytest.importorskip("anyio")
    pytester.makepyfile(SESSION_OF_ANYIO)
    run(pytester, request, "-p", "anyio").assert_outcomes(passed=3)


IMPORTED_INSIDE = (
    HELPERS
    + """
import queue
import pytest

def where(pool):
    found = queue.SimpleQueue()
    pool.callInThread(lambda: found.put(network()))
    return found.get(timeout=30)

@pytest.fixture(scope="session")
def kept():
    pools = []
    yield pools
    pools[0].stop()

@pytest.mark.netns
def test_first(netns, kept):
    from twisted.python.threadpool import ThreadPool

    kept.append(ThreadPool(1, 1))
    kept[0].start()
    assert where(kept[0]) == network()

def test_unmarked(kept):
    assert where(kept[0]) == network()
"""
)


def test_a_pool_that_is_first_imported_inside(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    """Its worker is inside, which could not be avoided; the work of an unmarked test still runs outside."""
    pytest.importorskip("twisted")
    pytester.makepyfile(IMPORTED_INSIDE)
    run(pytester, request).assert_outcomes(passed=2)

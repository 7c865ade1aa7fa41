"""The pytest side: hooks and fixtures, and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_netns import session as sessions
from pytest_netns import settings
from pytest_netns.session import LabFactory, Session

if TYPE_CHECKING:
    from pytest_netns.lab import Lab

SESSION = pytest.StashKey[Session]()
MARKER = pytest.StashKey[settings.Marker]()
LAB = pytest.StashKey["Lab"]()
BODY_INSIDE = "_netns_body_inside"
FIXTURES = frozenset({"netns", "netns_factory", "netns_pair", "netns_lan", "netns_nat", BODY_INSIDE})


class NamespaceLeakWarning(pytest.PytestWarning):
    """A namespace is still alive 5 s after its test; the message says what holds it."""


class ServiceDiedWarning(pytest.PytestWarning):
    """A service ended during a test without having been stopped."""


# -- options and mode ------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    settings.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    # The earliest moment with all options known: an xdist controller has a single thread now. A worker never has, and
    # inherits what the controller has become.
    session = config.stash[SESSION] = Session(settings.parse(config))
    if session.settings.mode == "rootless" and not hasattr(config, "workerinput"):
        session.go_rootless()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if SESSION not in config.stash:  # configured without running, as some plugins do
        config.stash[SESSION] = Session(settings.parse(config))
    config.addinivalue_line("markers", settings.MARKER_HELP)


def pytest_report_header(config: pytest.Config) -> str:
    return config.stash[SESSION].header()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marker = settings.parse_marker(item)
        if marker is not None:
            item.stash[MARKER] = marker
            settings.add_fixture(item, BODY_INSIDE)


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.items:
        used = [_uses_netns(item) for item in session.items]
        if any(used):
            session.config.stash[SESSION].choose_mode(all_use_netns=all(used))


# -- a test's phases -------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if not _uses_netns(item):
        return
    session = item.config.stash[SESSION]
    session.guard_signals()
    unavailable = session.check_available()
    if unavailable is None:
        return
    if session.settings.unavailable == "skip":
        pytest.skip(unavailable.short())
    pytest.fail(str(unavailable), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
    if fixturedef.scope == "function":
        return (yield)
    # A fixture of wider scope outlives the test, so it is made outside, even when the test's body asks for it.
    with sessions.outside():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    lab = item.stash.get(LAB, None)
    if lab is not None and report.failed:
        report.sections += sessions.report_sections(lab)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    result = yield
    item.config.stash[SESSION].note_leaks()
    return result


# -- the end of the run ----------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, trylast=True)  # inside of what records warnings and of what prints the summary
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, Any, Any]:
    own = session.config.stash[SESSION]
    result = yield
    own.note_leaks(wait=True)
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["netns_leaks"] = own.leaks
        return result
    for owner, message in own.leaks:
        if own.settings.leaks == "error" or not _warn_of_leak(owner, message):
            session.config.hook.pytest_runtest_logreport(report=settings.leak_report(owner, message))
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return result


def _warn_of_leak(owner: str, message: str) -> bool:
    """Whether that was only a warning: to a suite with ``filterwarnings = error`` it is an error."""
    try:
        warnings.warn(NamespaceLeakWarning(f"{owner}: {message}"), stacklevel=1)
    except NamespaceLeakWarning:
        return False
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    leaks = getattr(node, "workeroutput", {}).get("netns_leaks", [])
    node.config.stash[SESSION].leaks += [(owner, message) for owner, message in leaks]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reason = config.stash[SESSION].summary()
    if reason:
        terminalreporter.section("netns", sep="-")
        terminalreporter.line(reason)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if SESSION in config.stash:
        config.stash[SESSION].close()


def _uses_netns(item: pytest.Item) -> bool:
    return not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


# -- fixtures --------------------------------------------------------------------------------------


@pytest.fixture
def netns(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A `Lab` for this test: empty, or what the test's marker builds."""
    with sessions.open_lab(request.node.nodeid) as lab:
        request.node.stash[LAB] = lab
        yield lab
        for service in sessions.dead_services(lab):
            warnings.warn(ServiceDiedWarning(service), stacklevel=1)


@pytest.fixture
def netns_pair(netns: Lab) -> Lab:
    """`netns` with two namespaces joined by a cable: red 192.168.15.1/24, blue 192.168.15.2/24."""
    return sessions.build_picture(netns, "pair")


@pytest.fixture
def netns_lan(netns: Lab) -> Lab:
    """`netns` with red and blue on host's bridge v-net-0; host is 192.168.15.5 and the default gateway."""
    return sessions.build_picture(netns, "lan")


@pytest.fixture
def netns_nat(netns: Lab) -> Lab:
    """`netns_lan` and outside 192.168.1.3/24, joined to host's eth0 192.168.1.2/24; host masquerades."""
    return sessions.build_picture(netns, "nat")


@pytest.fixture(scope="session")
def netns_factory(request: pytest.FixtureRequest) -> LabFactory:
    """Labs for fixtures of wider scope: ``with netns_factory.lab() as lab: yield lab``."""
    return request.config.stash[SESSION].factory


@pytest.fixture(name=BODY_INSIDE)
def _netns_body_inside(request: pytest.FixtureRequest, netns: Lab) -> Iterator[None]:
    config = request.config
    marker = request.node.stash[MARKER]
    with config.stash[SESSION].body_inside(netns, marker, request.node.path.parent, config.rootpath):
        yield

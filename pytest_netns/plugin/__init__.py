"""The pytest side: hooks and fixtures, and nothing else.

Every run of pytest loads this module, so whatever only tests that use namespaces need is imported where it is used.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_netns.plugin import inside, marker, options
from pytest_netns.plugin.run import Run

if TYPE_CHECKING:
    from pytest_netns.errors import UnavailableError
    from pytest_netns.explaining.snapshot import Snapshot
    from pytest_netns.lab.factory import LabFactory
    from pytest_netns.lab.lab import Lab
    from pytest_netns.plugin.from_outside import Asked

RUN = pytest.StashKey[Run]()
LAB = pytest.StashKey["Lab"]()
SNAPSHOTS = pytest.StashKey[Mapping["Lab", "Snapshot"]]()
ASKED_OUTSIDE = pytest.StashKey[Sequence["Asked"]]()
BODY_INSIDE = marker.BODY_INSIDE
FIXTURES = frozenset({"netns", "netns_factory", "netns_pair", "netns_lan", "netns_nat", BODY_INSIDE})


class NamespaceLeakWarning(pytest.PytestWarning):
    """A namespace is still alive 5 s after its test; the message says what holds it."""


class OutsideNamespaceWarning(pytest.PytestWarning):
    """A test has connected to an address of its lab outside of every namespace: the packets went elsewhere."""


class ServiceDiedWarning(pytest.PytestWarning):
    """A service ended during a test without having been stopped."""


# -- options and mode ------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    # The earliest moment with all options known: an xdist controller has a single thread now. A worker never has, and
    # inherits what the controller has become.
    session = config.stash[RUN] = Run(options.parse(config))
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        session.is_worker = True
        session.inherit(workerinput.get("netns"), workerinput.get("netns_uplink", ""))
    elif session.settings.mode == "rootless":
        session.go_rootless(with_workers=options.is_controller(config))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    if node.gateway.spec.popen:  # another machine is another matter
        node.workerinput["netns"] = node.config.stash[RUN].told_workers()
        node.workerinput["netns_uplink"] = node.config.stash[RUN].uplink_agent()
    node.workerinput["netns_seed"] = node.config.stash[RUN].seed()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if RUN not in config.stash:  # configured without running, as some plugins do
        config.stash[RUN] = Run(options.parse(config))
    config.addinivalue_line("markers", marker.MARKER_HELP)


def pytest_report_header(config: pytest.Config) -> list[str]:
    session = config.stash[RUN]
    # A controller of xdist never learns what its workers collect.
    return [session.header(), *(session.forecast() if options.is_controller(config) else [])]


def pytest_report_collectionfinish(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    shown = config.get_verbosity() >= 0 and not config.option.collectonly
    return config.stash[RUN].forecast() if shown and any(_uses_netns(item) for item in items) else []


def pytest_make_parametrize_id(val: object) -> str | None:
    if "pytest_netns.topology" not in sys.modules:
        return None
    from pytest_netns.lab import factory

    return factory.topology_id(val)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marker.apply_marker(item)


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.items:
        used = [_uses_netns(item) for item in session.items]
        if any(used):
            session.config.stash[RUN].choose_mode(all_use_netns=all(used))


# -- a test's phases -------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.config.stash[RUN].ready = False
    inside.note_place(item)
    if marker.MARKER not in item.stash:  # another plugin has made it after all were collected
        marker.apply_marker(item)
    if _uses_netns(item):
        _require(item.config)
        asked = item.stash[marker.MARKER]
        if asked is not None and asked.needs:
            from pytest_netns.errors import UnavailableError
            from pytest_netns.machine import needs

            try:
                needs.require(asked.needs)
            except UnavailableError as lacking:
                _skip_or_fail(item.config.stash[RUN], lacking)


def _require(config: pytest.Config) -> None:
    """Skip or fail the test where this machine cannot make namespaces."""
    session = config.stash[RUN]
    if session.ready:
        return
    unavailable = session.check_available()
    if unavailable is None:
        session.guard_signals()
        session.use_seed()
        session.ready = True
        return
    _skip_or_fail(session, unavailable)


def _skip_or_fail(session: Run, unavailable: UnavailableError) -> NoReturn:
    """End the test that needs what is not available, as the option has it."""
    session.note_missing(unavailable)
    if session.settings.unavailable == "skip":
        pytest.skip(unavailable.short())
    pytest.fail(str(unavailable), pytrace=False)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    if fixturedef.argname in FIXTURES:  # a test may ask for it only in its body
        global _asking
        _require(request.config)
        _asking = request
    if (
        fixturedef.scope != "function"
    ):  # it outlives the test, so it is made outside, even when the test's body asks for it
        depth = inside.depth()
        with inside.outside():
            result = yield
        inside.keep(depth)
        return result
    if inside.INSIDE not in request.node.stash:
        return (yield)
    leave, enter = inside.teardown_inside(request.node)
    fixturedef.addfinalizer(leave)
    try:
        with inside.of(request.node):
            return (yield)
    finally:
        fixturedef.addfinalizer(enter)


@pytest.hookimpl(wrapper=True, trylast=True)  # the innermost: hooks of others are outside
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    _require_inside(item)
    used = _labs_of(item)
    if used:
        from pytest_netns.plugin import failing, from_outside

        item.stash[SNAPSHOTS] = failing.watch(used)
        from_outside.begin()
    depth = inside.depth()
    try:
        with inside.of(item), inside.own_sysfs(item):
            result = yield
    finally:
        inside.leave_to(depth)
        if used:
            item.stash[ASKED_OUTSIDE] = from_outside.end()
    if used:  # of a test that fails the report tells
        from_outside.warn(OutsideNamespaceWarning, item.stash[ASKED_OUTSIDE], used)
    return result


def _require_inside(item: pytest.Item) -> None:
    """Fail a test with the marker that no fixture has put inside, rather than run it in the real host's network."""
    asked = item.stash.get(marker.MARKER, None)
    if asked is not None and asked.enter is not None and inside.INSIDE not in item.stash:
        pytest.fail(marker.OUTSIDE.format(kind=type(item).__name__), pytrace=False)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> Generator[None, Any, Any]:
    # The prompt of --pdb is where the test was; without it this hook is for reporters, which are outside.
    with inside.of(node) if node.config.option.usepdb else contextlib.nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    uses_netns = _uses_netns(item)
    if call.excinfo is not None and "pytest_netns.kernel.spaces" in sys.modules:
        from pytest_netns.plugin import tracebacks

        tracebacks.hide_own_frames()
    if uses_netns and call.excinfo is not None:
        reason = item.config.stash[RUN].note_unavailable(call.excinfo.value)
        if reason is not None:
            call.excinfo = pytest.CallInfo.from_call(lambda: pytest.skip(reason), call.when).excinfo
    report = yield
    if uses_netns or LAB in item.stash:
        _explain(item, report)
        if call.when == "teardown":
            _forget(item)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    try:
        return (yield)
    finally:
        inside.restore_place(item)
        item.config.stash[RUN].note_leaks()


# -- the end of the run ----------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, Any, Any]:
    own = session.config.stash[RUN]
    result = yield
    # After Ctrl-C pytest keeps the traceback, and with it what was open in the test: that ends with the process.
    own.note_leaks(wait=exitstatus != pytest.ExitCode.INTERRUPTED)
    own.note_refusals()
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["netns"] = own.told_controller()
        return result
    for owner, message, by_library in own.leaks:
        if by_library:  # no test can do anything about it: told at the end, whatever the filters
            continue
        try:
            if own.settings.leaks == "error":
                raise NamespaceLeakWarning(message)
            session.config.issue_config_time_warning(NamespaceLeakWarning(f"{owner}: {message}"), stacklevel=2)
        except NamespaceLeakWarning:  # the user's filters may make the warning an error too
            session.config.hook.pytest_runtest_logreport(report=options.leak_report(owner, message))
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    told = getattr(node, "workeroutput", {}).get("netns")  # nothing from one that crashed
    if told is not None:
        node.config.stash[RUN].receive_worker_report(told)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reasons = config.stash[RUN].missing
    if reasons:
        terminalreporter.section("netns: not available", sep="-")
        for reason in reasons:
            terminalreporter.line(reason)
    kept = [leak for leak in config.stash[RUN].leaks if leak.by_library]
    if kept:
        terminalreporter.section("netns: kept by libraries", sep="-")
        for leak in kept:
            terminalreporter.line(f"{leak.owner}: {leak.message}")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if RUN in config.stash:
        config.stash[RUN].close()


def _uses_netns(item: pytest.Item) -> bool:
    return not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def _explain(item: pytest.Item, report: pytest.TestReport) -> None:
    from pytest_netns.plugin import failing

    used = _labs_of(item) if report.failed else []
    settings = item.config.stash[RUN].settings
    asked = item.stash.get(ASKED_OUTSIDE, ())
    failing.explain(item, report, used, item.stash.get(SNAPSHOTS, {}), asked, item.stash.get(LAB, None), settings)


def _forget(item: pytest.Item) -> None:
    """Let go of a test's lab: pytest keeps all items to the end of the run, and packets would fill the memory."""
    if LAB in item.stash:
        item.stash[LAB].captures.forget_recording()
        del item.stash[LAB]
    if SNAPSHOTS in item.stash:
        del item.stash[SNAPSHOTS]
    if ASKED_OUTSIDE in item.stash:
        del item.stash[ASKED_OUTSIDE]


def _labs_of(item: pytest.Item) -> list[Lab]:
    """The test's own lab, and those of wider scope if it uses any."""
    names = getattr(item, "fixturenames", ())
    found = [item.stash[LAB]] if LAB in item.stash else []
    if "netns_factory" in names:
        found += item.config.stash[RUN].factory.labs
    if "netns" in names:  # a parameter may have given it a wider scope
        wider = [node.stash[LAB] for node in item.listchain()[:-1] if LAB in node.stash]
        found += [lab for lab in wider if not lab.closed]
    return found


# -- fixtures --------------------------------------------------------------------------------------

# The request of the one that is being set up: to ask for "request" or "pytestconfig" takes pytest 0.05 to 0.1 ms.
_asking: pytest.FixtureRequest | None = None


def _request() -> pytest.FixtureRequest:
    """The request of the fixture that is being set up."""
    global _asking
    request, _asking = _asking, None
    if request is None:
        pytest.fail(
            "cannot set up netns: another plugin sets up this test's fixtures itself, without pytest's hooks "
            "(pytest-asyncio-cooperative does); write `with Lab() as lab:` in the test",
            pytrace=False,
        )
    return request


@pytest.fixture
def netns() -> Iterator[Lab]:
    """A `Lab` for this test: empty, or what its marker or an indirect parameter builds."""
    from pytest_netns.lab import factory
    from pytest_netns.plugin import failing

    request = _request()
    node, parameter = request.node, getattr(request, "param", None)
    # A parameter may have a wider scope: no single test's report would show those packets.
    settings = node.config.stash[RUN].settings
    recorded = request.scope == "function" and settings.pcap != "off"
    with factory.open_lab(node.nodeid, recorded=recorded, engine=settings.impairments) as lab:
        node.stash[LAB] = lab
        factory.build_parameter(lab, parameter, node.path, node.config.rootpath)
        asked = node.stash.get(marker.MARKER, None)
        if asked is None or BODY_INSIDE in node.fixturenames:
            yield lab
        else:
            with marker.body_inside(lab, asked, node):
                yield lab
        for service in failing.dead_services(lab):
            warnings.warn(ServiceDiedWarning(service), stacklevel=1)


@pytest.fixture
def netns_pair(netns: Lab) -> Lab:
    """`netns` with two namespaces joined by a cable: red 192.168.15.1/24, blue 192.168.15.2/24."""
    return _build_picture(netns, "pair")


@pytest.fixture
def netns_lan(netns: Lab) -> Lab:
    """`netns` with red and blue on host's bridge v-net-0; host is 192.168.15.5 and the default gateway."""
    return _build_picture(netns, "lan")


@pytest.fixture
def netns_nat(netns: Lab) -> Lab:
    """`netns_lan` and outside 192.168.1.3/24, joined to host's eth0 192.168.1.2/24; host masquerades."""
    return _build_picture(netns, "nat")


def _build_picture(lab: Lab, name: str) -> Lab:
    from pytest_netns.lab import factory

    return factory.build_picture(lab, name)


@pytest.fixture(scope="session")
def netns_factory(pytestconfig: pytest.Config) -> LabFactory:
    """Labs for fixtures of wider scope: ``with netns_factory.lab() as lab: yield lab``."""
    return pytestconfig.stash[RUN].factory


@pytest.fixture(name=BODY_INSIDE)
def _netns_body_inside(netns: Lab) -> Iterator[None]:
    """Does for a test whose `netns` is replaced what `netns` does otherwise: its body runs inside."""
    node = _request().node
    with marker.body_inside(netns, node.stash[marker.MARKER], node):
        yield

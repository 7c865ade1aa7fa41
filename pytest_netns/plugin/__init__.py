"""The pytest plugin: its hooks, and its fixtures, which pytest looks up by name here.

Every run of pytest loads this module, so what only tests with namespaces need is imported where it is used.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_netns.plugin import rewriting  # noqa: F401  # pyright: ignore[reportUnusedImport] - first: for those below

# isort: split
from pytest_netns.plugin import fixtures, inside, marker, options, state
from pytest_netns.plugin.fixtures import netns, netns_body_inside, netns_factory, netns_lan, netns_nat, netns_pair
from pytest_netns.plugin.run import Run
from pytest_netns.plugin.state import (
    LAB,
    OUTSIDE_ACCESSES,
    RUN,
    SNAPSHOTS,
    NamespaceLeakWarning,
    OutsideNamespaceWarning,
    ServiceDiedWarning,
)

if TYPE_CHECKING:
    from pytest_netns.errors import UnavailableError

__all__ = [
    "NamespaceLeakWarning",
    "OutsideNamespaceWarning",
    "ServiceDiedWarning",
    "netns",
    "netns_body_inside",
    "netns_factory",
    "netns_lan",
    "netns_nat",
    "netns_pair",
]


# The function of pytest's fixture for a parameter's value, which runs no code of a test.
_PARAMETER = "get_direct_param_fixture_func"


# -- options and mode ------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    # The earliest point at which all options are known: an xdist controller still has a single thread. A worker never has,
    # and inherits the controller's namespaces.
    session = config.stash[RUN] = Run(options.parse(config))
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        session.is_worker = True
        session.inherit(workerinput.get("netns"), workerinput.get("netns_uplink", ""))
    elif session.settings.mode == "rootless":
        session.go_rootless(with_workers=options.is_controller(config))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    if node.gateway.spec.popen:  # not workers on other machines
        node.workerinput["netns"] = node.config.stash[RUN].report_for_workers()
        node.workerinput["netns_uplink"] = node.config.stash[RUN].uplink_agent()
    node.workerinput["netns_seed"] = node.config.stash[RUN].seed()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if RUN not in config.stash:  # configured without running, as some plugins do
        config.stash[RUN] = Run(options.parse(config))
    config.addinivalue_line("markers", marker.MARKER_HELP)


def pytest_report_header(config: pytest.Config) -> list[str]:
    session = config.stash[RUN]
    # An xdist controller does not know what its workers collect.
    return [session.header(), *(session.forecast() if options.is_controller(config) else [])]


def pytest_report_collectionfinish(config: pytest.Config, items: Sequence[pytest.Item]) -> list[str]:
    shown = config.get_verbosity() >= 0 and not config.option.collectonly
    return config.stash[RUN].forecast() if shown and any(state.uses_netns(item) for item in items) else []


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
        used = [state.uses_netns(item) for item in session.items]
        if any(used):
            session.config.stash[RUN].choose_mode(all_use_netns=all(used))


# -- a test's phases -------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.config.stash[RUN].ready = False
    inside.note_place(item)
    if marker.MARKER not in item.stash:  # another plugin created it after collection
        marker.apply_marker(item)
    if state.uses_netns(item):
        _require(item.config)
        asked = item.stash[marker.MARKER]
        if asked is not None and asked.needs:
            from pytest_netns.errors import UnavailableError
            from pytest_netns.machine import needs

            try:
                needs.require(asked.needs)
            except UnavailableError as error:
                _skip_or_fail(item.config.stash[RUN], error)


def _require(config: pytest.Config) -> None:
    """Skip or fail the test if this machine cannot create namespaces."""
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
    """Skip or fail a test that needs an unavailable feature, according to the option."""
    session.note_missing(unavailable)
    if session.settings.unavailable == "skip":
        pytest.skip(unavailable.short())
    pytest.fail(str(unavailable), pytrace=False)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    if fixturedef.argname in state.FIXTURES:  # it may be requested only in the test's body
        _require(request.config)
        fixtures.note_request(request)
    if (
        fixturedef.scope != "function"
    ):  # it outlives the test, so it is set up outside, even if the test's body requests it
        depth = inside.depth()
        with inside.outside():
            result = yield
        inside.keep(depth)
        return result
    if inside.INSIDE not in request.node.stash or getattr(fixturedef.func, "__name__", "") == _PARAMETER:
        return (yield)
    leave, enter = inside.teardown_inside(request.node)
    fixturedef.addfinalizer(leave)
    try:
        with inside.of(request.node):
            return (yield)
    finally:
        fixturedef.addfinalizer(enter)


@pytest.hookimpl(wrapper=True, trylast=True)  # the innermost: hooks of other plugins run outside
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    marker.require_inside(item)
    used = state.labs_of(item)
    outside: Any = None
    if used:
        from pytest_netns.plugin import failing, from_outside

        item.stash[SNAPSHOTS] = failing.watch(used)
        outside = from_outside
        outside.begin()
    depth = inside.depth()
    try:
        with inside.of(item), inside.own_sysfs(item):
            result = yield
    finally:
        inside.leave_to(depth)
        if outside is not None:
            item.stash[OUTSIDE_ACCESSES] = outside.end()
    if outside is not None:  # for a failed test it is in the report
        outside.warn(OutsideNamespaceWarning, item.stash[OUTSIDE_ACCESSES], used)
    return result


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> Generator[None, Any, Any]:
    # The prompt of --pdb runs where the test was; otherwise this hook is for reporters, which run outside.
    with inside.of(node) if node.config.option.usepdb else contextlib.nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    uses_netns = state.uses_netns(item)
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
            state.forget(item)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    try:
        return (yield)
    finally:
        inside.restore_place(item)
        item.config.stash[RUN].note_leaks()


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    if "pytest_netns.kernel.spaces" in sys.modules:
        from pytest_netns.plugin import tracebacks

        tracebacks.end_at_caller(excinfo)


# -- the end of the run ----------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Generator[None, Any, Any]:
    run = session.config.stash[RUN]
    result = yield
    # After Ctrl-C pytest keeps the traceback, and with it what was open in the test until the process ends.
    run.note_leaks(wait=exitstatus != pytest.ExitCode.INTERRUPTED)
    run.note_refusals()
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["netns"] = run.report_for_controller()
        return result
    if run.leaks:
        from pytest_netns.plugin import leaks

        leaks.report(session, run.leaks, as_errors=run.settings.leaks == "error")
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    report = getattr(node, "workeroutput", {}).get("netns")  # None if the worker crashed
    if report is not None:
        node.config.stash[RUN].receive_worker_report(report)


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


def _explain(item: pytest.Item, report: pytest.TestReport) -> None:
    from pytest_netns.plugin import failing

    used = state.labs_of(item) if report.failed else []
    settings = item.config.stash[RUN].settings
    asked = item.stash.get(OUTSIDE_ACCESSES, ())
    before = item.stash.get(SNAPSHOTS, None) or {}
    failing.explain(item, report, used, before, asked, item.stash.get(LAB, None), settings)

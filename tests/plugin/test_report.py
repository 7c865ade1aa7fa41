"""What the report of a failed test tells about its network."""

from __future__ import annotations

import pytest

FAILING = """
def test_curl(netns_nat):
    red, outside = netns_nat["red"], netns_nat["outside"]
    outside.start(["python3", "-u", "-m", "http.server", "80"], ready=80)
    red.run(["curl", "-s", "http://192.168.1.3/"])
    red.run(["ping", "-c1", "-W1", "192.168.15.77"], check=False)
    netns_nat["blue"].interfaces["veth-blue"].down()
    red.run(["sh", "-c", "echo sorry >&2; exit 3"])
"""


@pytest.fixture
def run(pytester: pytest.Pytester, request: pytest.FixtureRequest):
    """Runs a test file in a pytest of its own, in the mode of this one."""
    mode = request.config.getoption("netns_mode") or "auto"

    def run(text: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", f"--netns-mode={mode}", *arguments)

    return run


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "xdist"])
def test_short_report(run, workers: tuple[str, ...]) -> None:
    """By default: the drawing, what changed, who listens and runs, what services wrote, which commands failed."""
    result = run(FAILING, *workers)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*netns: network when the test failed*",
            "*masquerade 192.168.15.0/24 out eth0",
            "*[[]blue[]] veth-blue  192.168.15.2/24  down*",
            "*netns: changed since set-up*",
            "- blue: veth-blue is up",
            "- blue: route default via 192.168.15.5 dev veth-blue",
            "+ blue: veth-blue is down",
            "*netns: inside the namespaces*",
            "  without carrier:",
            "    veth-blue-br",
            "    192.168.15.77 unknown dev veth-red *",
            "    tcp *:80",
            "    *http.server 80",
            "(-vv shows *",
            "*netns: output of *http.server 80 in outside*",
            '192.168.1.2 - - *"GET / HTTP/1.1" 200 -',
            "*netns: commands that failed*",
            "    sorry",
        ]
    )
    result.stdout.no_fnmatch_line("*nft ruleset*")


def test_whole_report(run) -> None:
    """With -vv also counters, routes, neighbours, the nft rules, and the connection that NAT has tracked."""
    result = run(FAILING, "-vv")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*netns: inside the namespaces*",
            "    eth0 (veth, up) 192.168.1.2/24,*received [1-9]* packets*sent [1-9]*",
            "    192.168.15.0/24 dev v-net-0",
            "    192.168.1.3 *:* dev eth0 *",
            "  nft ruleset:",
            "*masquerade*",
            "  tracked connections:",
            "    tcp * 192.168.15.1:* > 192.168.1.3:80, replies 192.168.1.3:80 > 192.168.1.2:*",
        ]
    )


def test_passing_test_has_none(run) -> None:
    """Only a failure costs a look at the network, and only a failure shows it."""
    result = run("def test_fine(netns_pair): pass\ndef test_unrelated(): assert 0\n", "-rA")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*netns: network*")


def test_failing_setup_and_closed_lab(run) -> None:
    """A fixture that fails is reported with the network; a lab that the test has closed leaves the failed commands."""
    result = run(
        """
import pytest

@pytest.fixture
def broken(netns_pair):
    raise RuntimeError("broken")

def test_setup(broken): pass

def test_closed(netns_pair):
    netns_pair["red"].run(["ping", "-c1", "-W1", "192.168.15.2"])
    netns_pair.close()
    assert 0
"""
    )
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["*RuntimeError: broken", "*netns: network when the test failed*", "*192.168.15.1/24*"])
    result.stdout.no_fnmatch_line("*cannot be shown*")


def test_never_a_reason_for_failure(run) -> None:
    """What cannot be found out is a line in the report; the rest of it, and the test's outcome, are as ever."""
    result = run(
        """
import pytest
from pytest_netns.explaining import observing
from pytest_netns.kernel import conntrack

def refuse(*arguments):
    raise OSError("no such luck")

def test_part(netns_pair, request, monkeypatch):
    request.node.add_marker(pytest.mark.xfail(strict=True))
    monkeypatch.setattr(conntrack, "tracked_connections", refuse)
    assert 0

def test_part_shown(netns_pair, monkeypatch):
    monkeypatch.setattr(conntrack, "tracked_connections", refuse)
    assert 0

def test_whole(netns_pair, monkeypatch):
    monkeypatch.setattr(observing, "observe", refuse)
    assert 0
"""
    )
    result.assert_outcomes(failed=2, xfailed=1)
    result.stdout.fnmatch_lines(["    OSError: no such luck", "the network cannot be shown: OSError: no such luck"])


def test_lab_of_wider_scope(run) -> None:
    """A failing test that uses a lab of module scope shows that lab, with what this test changed."""
    result = run(
        """
import pytest

@pytest.fixture(scope="module")
def office(netns_factory):
    with netns_factory.lab("lan") as lab:
        yield lab

def test_first(office):
    office["red"].interfaces["veth-red"].add_address("10.9.9.9/24")

def test_second(office):
    office["blue"].interfaces["veth-blue"].add_address("10.8.8.8/24")
    assert 0
"""
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*veth-red  192.168.15.1/24  10.9.9.9/24*", "+ blue: veth-blue has 10.8.8.8/24"])
    result.stdout.no_fnmatch_line("*+ red: veth-red has*")

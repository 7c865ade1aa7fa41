"""The network of a test: markers on it and around it, parameters, fixtures."""

from __future__ import annotations

import pytest

from tests.support.inner_runs import RunFile

OFFICE = """
[[bridges]]
name = "v-net-0"
subnet = "10.1.0.0/24"
ports = [{ namespace = "desk" }, { namespace = "printer" }]
"""
IMPORTS = """
import pytest
from pytest_netns import BridgeSpec, NamespaceSpec, PortSpec, Topology, VethEnd, VethSpec

HALL = Topology(bridges=[BridgeSpec("v-net-0", subnet="10.2.0.0/24", ports=[PortSpec("door"), PortSpec("lamp")])])

def names(lab):
    return sorted(namespace.name for namespace in lab)
"""


@pytest.fixture
def run(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> RunFile:
    """Runs a test file, with the imports added, in an inner pytest, in the mode of this one."""
    mode = request.config.getoption("netns_mode") or "auto"

    def run(text: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(IMPORTS + text)
        return pytester.runpytest_subprocess("-v", "-p", "no:cacheprovider", f"--netns-mode={mode}", *arguments)

    return run


def test_marker_takes_value_file_and_inline_form(pytester: pytest.Pytester, run: RunFile) -> None:
    """A Topology, a TOML file beside the test file, and the inline form each build their network, in which packets flow."""
    pytester.makefile(".toml", office=OFFICE)
    result = run(
        """
@pytest.mark.netns(HALL)
def test_value(netns):
    assert names(netns) == ["door", "host", "lamp"]
    netns["door"].run(["ping", "-c1", "-W2", "10.2.0.2"])

@pytest.mark.netns("office.toml", enter="desk")
def test_file(netns):
    assert names(netns) == ["desk", "host", "printer"]
    netns["desk"].run(["ping", "-c1", "-W2", "10.1.0.2"])

@pytest.mark.netns(namespaces=["red", "blue"], subnet="10.3.0.0/24", subnet6="fd00::/64")
def test_inline(netns):
    assert names(netns) == ["blue", "host", "red"]
    netns["red"].run(["ping", "-c1", "-W2", "10.3.0.2"])
    netns["red"].run(["ping", "-c1", "-W2", "fd00::2"])
"""
    )
    result.assert_outcomes(passed=3)


def test_file_relative_to_the_root(pytester: pytest.Pytester, run: RunFile) -> None:
    """A file that is not beside the test file is searched in the root; the error for a missing one names both places."""
    pytester.makefile(".toml", office=OFFICE)
    pytester.makeini("[pytest]\n")
    pytester.mkdir("deep")
    (pytester.path / "deep" / "test_deep.py").write_text(
        IMPORTS
        + """
@pytest.mark.netns("office.toml")
def test_found(netns):
    assert "desk" in netns

@pytest.mark.netns("nowhere.toml")
def test_missing(netns):
    pass
"""
    )
    result = run("")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*cannot read topology 'nowhere.toml': no such file in *deep or *"])


def test_the_closest_marker_replaces(run: RunFile) -> None:
    """Of markers on module, class, function and parameter only the closest one applies: nothing of the others is built."""
    result = run(
        """
pytestmark = pytest.mark.netns("pair")

def test_module(netns):
    assert names(netns) == ["blue", "host", "red"] and not netns.host.interfaces.keys() - {"lo"}

@pytest.mark.netns("lan")
class TestClass:
    def test_class(self, netns):
        assert "v-net-0" in netns.host.interfaces

    @pytest.mark.netns(HALL)
    def test_function(self, netns):
        assert names(netns) == ["door", "host", "lamp"]

    @pytest.mark.netns(HALL)
    @pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.netns("nat"))])
    def test_parameter(self, netns, n):
        assert names(netns) == ["blue", "host", "outside", "red"]

    @pytest.mark.netns(enter="host")
    def test_bare(self, netns):
        assert names(netns) == ["host"]
"""
    )
    result.assert_outcomes(passed=5)


def test_parametrized_over_topologies(pytester: pytest.Pytester, run: RunFile) -> None:
    """Ids of parametrized tests name the picture or the namespaces; `indirect` builds the parameter."""
    pytester.makefile(".toml", office=OFFICE)
    result = run(
        """
from pytest_netns.topology import PICTURES
BIG = Topology(namespaces=[NamespaceSpec(f"n{n}") for n in range(9)])

@pytest.mark.parametrize("netns", [HALL, PICTURES["lan"], BIG, "office.toml", "pair"], indirect=True)
def test_indirect(netns):
    assert len(netns) >= 2

@pytest.mark.parametrize("topology", [HALL, PICTURES["nat"]])
def test_direct(netns, topology):
    netns.build(topology)
    assert names(netns) == sorted(topology.namespace_names)
"""
    )
    result.assert_outcomes(passed=7)
    for name in ("host-door-lamp", "lan", "n0-n1-n2-n3+5", "office.toml", "pair"):
        result.stdout.fnmatch_lines([f"*::test_indirect[[]{name}[]] PASSED*"])
    result.stdout.fnmatch_lines(["*::test_direct[[]nat[]] PASSED*"])


def test_own_fixtures_supply_one(run: RunFile) -> None:
    """A user's fixture can provide the topology, or replace `netns` itself, which then applies to the marker too."""
    result = run(
        """
@pytest.fixture(params=[HALL], ids=["hall"])
def topology(request):
    return request.param

@pytest.fixture
def netns(netns, topology):
    netns.build(topology)
    return netns

@pytest.mark.netns(enter="door")
def test_body_runs_in_what_the_fixture_built(netns):
    import socket
    assert [name for _, name in socket.if_nameindex()] == ["lo", "veth-door"]

def test_plain(netns):
    netns["door"].run(["ping", "-c1", "-W2", "10.2.0.2"])
"""
    )
    result.assert_outcomes(passed=2)


def test_mistakes_in_a_file_are_reported_at_once(pytester: pytest.Pytester, run: RunFile) -> None:
    """All mistakes of a file are in the test's error, each with the file, the key and the valid values."""
    pytester.makefile(".toml", office=OFFICE.replace("subnet", "subnett").replace("desk", "a b"))
    result = run('@pytest.mark.netns("office.toml")\ndef test_office(netns): pass\n')
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*2 mistakes:*", "*office.toml: bridges*0*subnett*did you mean 'subnet'*"])

"""needs=[...]: a test that needs a missing feature is skipped or fails, with the doctor's cause and remedy."""

from __future__ import annotations

import pytest

from pytest_netns import UnavailableError
from pytest_netns.machine import needs, probes

SUITE = """
import pytest

@pytest.mark.netns(needs={names})
def test_it():
    pass
"""


def lacking() -> str:
    """A feature that this machine lacks: no kernel has all of them."""
    for name in ("netem", "wireguard", "vlan", "dummy", "gretap", "ipvlan"):
        try:
            needs.require([name])
        except UnavailableError:
            return name
    pytest.skip("this kernel lacks nothing that could be asked for")


def test_available_features_are_no_obstacle(pytester: pytest.Pytester) -> None:
    """A test whose needs are met runs; a single need may be given as text."""
    for names in ("['veth', 'bridge']", "'veth'"):
        pytester.makepyfile(SUITE.format(names=names))
        pytester.runpytest_subprocess("-q").assert_outcomes(passed=1)


@pytest.mark.parametrize(("unavailable", "outcome"), [("skip", "skipped"), ("fail", "errors")])
def test_what_is_lacking(pytester: pytest.Pytester, unavailable: str, outcome: str) -> None:
    """The option decides; the reason shows the cause, the end of the run the remedy."""
    name = lacking()
    pytester.makepyfile(SUITE.format(names=[name]))
    result = pytester.runpytest_subprocess("-rs", f"--netns-unavailable={unavailable}")
    result.assert_outcomes(**{outcome: 1})
    result.stdout.fnmatch_lines([f"*cannot use *{name}: this kernel lacks it*", "*remedy: sudo modprobe *"])


def test_of_a_lab(pytester: pytest.Pytester) -> None:
    """netns_factory.lab accepts the same, and opens no lab."""
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.fixture(scope="module")
        def lab(netns_factory):
            with netns_factory.lab("pair", needs=["{lacking()}"]) as lab:
                yield lab

        def test_it(lab):
            raise AssertionError
        """
    )
    pytester.runpytest_subprocess("--netns-unavailable=skip").assert_outcomes(skipped=1)


@pytest.mark.parametrize(
    ("given", "message"), [("['netm']", "did you mean 'netem'?"), ("[7]", "cannot use 7"), ("7", "needs:")]
)
def test_wrong_names(pytester: pytest.Pytester, given: str, message: str) -> None:
    """A name that the doctor does not know is reported before any test runs."""
    pytester.makepyfile(SUITE.format(names=given))
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str() + result.stdout.str()


def test_names_tell_things_apart() -> None:
    """The features that the doctor tries have different names."""
    names = [probe.name for probe in probes.everything()]
    assert len(set(names)) == len(names)

"""The engine of impairments is an option; a failed test's report shows the impairments, the engine, and how to repeat them."""

from __future__ import annotations

import pytest

SUITE = """
def test_it(netns):
    red, blue = netns.add_namespace("red"), netns.add_namespace("blue")
    link = netns.add_veth(red, blue, addresses=("10.0.0.1/24", "10.0.0.2/24"))
    link.a.impair(delay="20ms", loss="30%")
    raise AssertionError
"""


def test_the_report_of_a_failed_test(pytester: pytest.Pytester) -> None:
    """It shows the values, their direction, the engine and the seed; the header shows the option."""
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess("--netns-impairments=userspace", "--netns-seed=42")
    result.stdout.fnmatch_lines(
        [
            "netns: mode *; impairments by userspace; seed 42*",
            "*veth-red *sends: delay 20ms, loss 30% (user-space wire)*[[]blue]*",
            "*--netns-seed=42*",
        ]
    )


def test_the_ini_file(pytester: pytest.Pytester) -> None:
    """The option works in the ini file, and for labs of the factory."""
    pytester.makeini("[pytest]\nnetns_impairments = userspace")
    pytester.makepyfile(
        """
        def test_it(netns_factory):
            with netns_factory.lab("pair") as lab:
                lab["red"].interfaces["veth-red"].impair("LTE")
                assert "(user-space wire)" in lab.draw()
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_wrong_engine(pytester: pytest.Pytester) -> None:
    """The error for an invalid value lists the valid ones."""
    result = pytester.runpytest_subprocess("--netns-impairments=tc")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--netns-impairments: 'tc' is not valid; choose one of: auto, netem, userspace"])


def test_every_engine_is_an_option() -> None:
    """The option has the same engines as a lab."""
    from pytest_netns.plugin import options
    from pytest_netns.values.choices import ENGINES

    assert options.ENGINES == ENGINES

"""The maps of users: every number keeps its value, and the user keeps their own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_netns.machine.users import Range, lines_of, parse_ranges


@given(own=st.integers(1, 99999), start=st.integers(100000, 2**31), numbers=st.integers(1, 2**20))
def test_lines_map_each_number_once(own: int, start: int, numbers: int) -> None:
    """One's own number maps to itself, the others to the range, each once, without overlaps."""
    lines = lines_of(own, Range(start, numbers))
    assert [line.outside for line in lines if line.inside == own and line.numbers == 1] == [own]
    others = [line for line in lines if line.outside != own]
    assert sum(line.numbers for line in others) == numbers
    end = 0
    for line in sorted(lines):
        assert line.inside >= end
        end = line.inside + line.numbers
    assert sorted(outside for line in others for outside in (line.outside, line.outside + line.numbers))[0] == start


def test_ranges_of_a_user() -> None:
    """By name or by number; other users' lines and invalid ones do not count."""
    text = "# comment\nother:1:2\nme:100000:65536\n1000:300000:10\nme:x:1\nme:5\n\n"
    assert parse_ranges(text, ("me", "1000")) == [Range(100000, 65536), Range(300000, 10)]
    assert parse_ranges("", ("me",)) == []

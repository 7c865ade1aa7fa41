"""Components and faults have notes, which drawings and reports show."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_netns import Lab
from pytest_netns.explaining import observing, report
from pytest_netns.explaining.snapshot import snapshot
from pytest_netns.values.notes import Note


class Cut:
    """Something in force with notes."""

    def notes(self) -> Iterator[Note]:
        """One line for an interface, one for its namespace."""
        yield Note("red", "drops everything", "veth-red")
        yield Note("red", "cut off from blue")


class Broken:
    """Something whose notes raise an error."""

    def notes(self) -> list[Note]:
        """Fails."""
        raise OSError("gone")


def test_words_are_drawn_where_they_belong(netns_pair: Lab) -> None:
    """Registered notes are drawn at their interface and namespace until they are discarded."""
    before, cut = netns_pair.draw(), Cut()
    netns_pair.notes.add(cut)
    assert netns_pair.draw() == (
        "[red]\n│  cut off from blue\n└─ veth-red  192.168.15.1/24  drops everything ─── [blue] veth-blue  192.168.15.2/24\n"
    )
    netns_pair.notes.discard(cut)
    assert netns_pair.draw() == before


def test_words_that_are_new_are_changes(netns_pair: Lab) -> None:
    """Notes registered after set-up are reported as changes; earlier ones are not."""
    netns_pair["red"].masquerade("10.0.0.0/24")
    netns_pair.notes.add(Cut())
    since = snapshot(netns_pair)
    assert observing.observe(netns_pair, since).changes == ()
    second = Cut()
    second.notes = lambda: iter([Note("blue", "paused")])  # type: ignore[method-assign]
    netns_pair.notes.add(second)
    assert observing.observe(netns_pair, since).changes == ("+ blue: paused",)


def test_words_that_fail_do_not(netns_pair: Lab) -> None:
    """A source that raises does not affect the others, and the report shows the error below the drawing."""
    netns_pair.notes.add(Broken())
    netns_pair.notes.add(Cut())
    assert "drops everything" in netns_pair.draw()
    (_, drawing), *_ = report.sections(observing.observe(netns_pair))
    assert drawing.endswith("\nBroken cannot be shown: OSError: gone")

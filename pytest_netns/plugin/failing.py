"""Handle a failed test while its labs are still open; nothing here may cause a failure itself."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_netns.errors import encodable

if TYPE_CHECKING:
    import pytest

    from pytest_netns.explaining.snapshot import Snapshot
    from pytest_netns.lab.lab import Lab
    from pytest_netns.plugin.from_outside import Access
    from pytest_netns.plugin.options import Settings

PCAP_DIRECTORY = ".netns-pcap"  # below the root; defined here so that a passing test imports nothing


def watch(labs: Iterable[Lab]) -> dict[Lab, Snapshot]:
    """Take snapshots of labs at the end of set-up."""
    from pytest_netns.explaining.snapshot import snapshot

    snapshots: dict[Lab, Snapshot] = {}
    for lab in labs:
        with contextlib.suppress(Exception):  # closed, or about to raise its own error
            snapshots[lab] = snapshot(lab)
    return snapshots


def explain(
    item: pytest.Item,
    report: pytest.TestReport,
    used: list[Lab],
    before: Mapping[Lab, Snapshot],
    outside_accesses: Sequence[Access],
    own: Lab | None,
    settings: Settings,
) -> None:
    """Add the state of the network to a failed test's report, and keep its packets; pause if requested.

    Args:
        item, report: the test, and one of its phases.
        used: the labs to show; none if it has not failed.
        before: their snapshots at the end of set-up.
        outside_accesses: the test's accesses to its labs from outside of every namespace.
        own: the test's own lab, whose packets are recorded.
        settings: the options in force.
    """
    import pytest

    try:
        _explain(item, report, used, before, outside_accesses, own, settings)
    except (KeyboardInterrupt, SystemExit, pytest.exit.Exception):
        raise
    except BaseException as error:  # pytest-timeout, or another signal handler: the test keeps its own outcome
        why = f"{type(error).__name__}: {error}"
        report.sections.append(("netns", encodable(f"the rest cannot be shown: {why}")))


def _explain(
    item: pytest.Item,
    report: pytest.TestReport,
    used: list[Lab],
    before: Mapping[Lab, Snapshot],
    outside_accesses: Sequence[Access],
    own: Lab | None,
    settings: Settings,
) -> None:
    """See `explain`."""
    if used and outside_accesses:
        from pytest_netns.plugin import from_outside

        if sentences := from_outside.explain(outside_accesses, used):
            report.sections.append(("netns: accessed from outside of every namespace", encodable("\n".join(sentences))))
    if used:
        report.sections += report_sections(used, before, whole=settings.whole)
        if item.config.pluginmanager.hasplugin("html"):  # pytest-html
            report.extras = [*getattr(report, "extras", ()), *html_extras(used)]  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    if own is not None and (report.failed or report.when == "call"):
        report.sections += keep_packets(own, item.config.rootpath, failed=report.failed, settings=settings)
    if used and settings.pause:
        capture: Any = item.config.pluginmanager.getplugin("capturemanager")
        capture.suspend(in_=True)
        try:
            pause(used, item.nodeid)
        finally:
            capture.resume()


def report_sections(labs: Iterable[Lab], since: Mapping[Lab, Snapshot], *, whole: bool) -> list[tuple[str, str]]:
    """The report sections (title, text) about a failed test's labs; never raises."""
    from pytest_netns.explaining import observing, report

    sections: list[tuple[str, str]] = []
    for lab in labs:
        try:
            sections += report.sections(observing.observe(lab, since.get(lab), whole=whole), whole=whole)
        except Exception as error:
            sections.append(("netns", f"the network cannot be shown: {type(error).__name__}: {error}"))
    return sections


def keep_packets(lab: Lab, root: Path, *, failed: bool, settings: Settings) -> list[tuple[str, str]]:
    """Write a test's packets to a file if they are to be kept; returns the report section about them."""
    recording = lab.captures.recording
    if recording is None:
        return []
    kept = failed or settings.pcap == "all"
    if not kept and not os.path.isdir(os.path.join(root, PCAP_DIRECTORY)):
        return []
    try:
        from pytest_netns.plugin import packet_files

        if not kept:
            packet_files.remove(root, lab.owner)  # from an earlier run, in which it failed
            return []
        from pytest_netns.explaining import report
        from pytest_netns.packets import pcapng

        shown = packet_files.write(root, lab.owner, pcapng.blocks(recording.in_order(), comment=lab.owner))
        return [report.packet_section(recording, shown, whole=settings.whole)]
    except Exception as error:
        return [("netns: packets", encodable(f"the packets cannot be kept: {type(error).__name__}: {error}"))]


def html_extras(labs: Iterable[Lab]) -> list[dict[str, str | None]]:
    """The drawings of labs for pytest-html: each with the fields of its ``extras.html``."""
    drawings: list[str] = []
    for lab in labs:
        with contextlib.suppress(Exception):  # closed; the report shows other problems
            drawings.append(lab.draw("svg"))
    return [
        {"name": None, "format_type": "html", "content": each, "mime_type": None, "extension": None}
        for each in drawings
    ]


def pause(labs: Iterable[Lab], test: str) -> None:
    """Print how to enter a failed test's namespaces, and wait for Enter."""
    from pytest_netns.explaining import pausing

    for lab in labs:
        if not lab.closed:
            print(pausing.invitation(lab, test))
    print("Press Enter to continue (and remove the network): ", end="", flush=True)
    sys.stdin.readline()


def dead_services(lab: Lab) -> list[str]:
    """A sentence for each service that ended without having been stopped."""
    if not any(namespace.programs.services for namespace in lab):
        return []
    from pytest_netns.explaining import observing

    return [service.death for service in observing.services(lab) if service.death]

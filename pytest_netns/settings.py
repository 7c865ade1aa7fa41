"""What the user has set - ini file, command line, marker arguments - parsed once into frozen values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytest

MARKER_HELP = (
    "netns(topology=None, *, enter='host', namespaces=[...], subnet=..., subnet6=..., masquerade=False, "
    "forward={port: target}): run the test's body inside a network of its own; topology is 'pair', 'lan', 'nat', "
    "a .toml file or a Topology"
)
MODES = ("auto", "root", "rootless")
UNAVAILABLE = ("skip", "fail")
LEAKS = ("warn", "error")
PCAP = ("failed", "all", "off")

_OPTIONS = {
    "netns_mode": (MODES, "auto", "how to get network namespaces: with privilege, in a user namespace, or as it fits"),
    "netns_unavailable": (
        UNAVAILABLE,
        "",
        "what becomes of tests this machine cannot run (default: fail in CI, else skip)",
    ),
    "netns_pcap": (PCAP, "failed", "of which tests to keep all packets, in .netns-pcap/TEST.pcapng below the root"),
    "netns_leaks": (LEAKS, "warn", "what becomes of a namespace that something keeps alive after its test"),
}


class Settings(NamedTuple):
    """The options, each with the meaning its help text gives."""

    mode: str
    unavailable: str
    leaks: str
    pcap: str
    pause: bool
    whole: bool


class Marker(NamedTuple):
    """A ``netns`` marker.

    Attributes:
        topology: the name of a picture, a path, a Topology, or None.
        inline: the keyword arguments of the inline form.
        enter: the namespace the test's body runs in; None for none.
    """

    topology: Any
    inline: Mapping[str, Any]
    enter: str | None


MARKER = pytest.StashKey[Marker | None]()  # of every test
BODY_INSIDE = "_netns_body_inside"
OUTSIDE = (
    "cannot run this test's body inside its namespace: a {kind} does not use pytest's fixtures, or another plugin has "
    "replaced them; leave the marker out, and use a lab's namespaces in the body"
)


def add_options(parser: pytest.Parser) -> None:
    """Register each option for the ini file and the command line."""
    group = parser.getgroup("netns", "network namespaces")
    for name, (choices, default, help_) in _OPTIONS.items():
        text = f"{help_}: {', '.join(choices)}"
        if default:
            text += f" (default: {default})"
        parser.addini(name, text, default=default)
        group.addoption(f"--{name.replace('_', '-')}", dest=name, metavar="|".join(choices), help=text)
    group.addoption(
        "--netns-pause",
        action="store_true",
        help="when a test fails, say how to enter its namespaces, and wait for Enter before they are gone",
    )


def parse(config: pytest.Config) -> Settings:
    """The settings in force.

    Raises:
        pytest.UsageError: a value that is not among the choices.
    """
    found = {name: _value(config, name, choices) for name, (choices, _, _) in _OPTIONS.items()}
    unavailable = found["netns_unavailable"] or ("fail" if os.environ.get("CI") else "skip")
    pause = bool(config.getoption("--netns-pause"))
    if pause and is_controller(config):
        raise pytest.UsageError("--netns-pause: xdist's workers have no terminal to wait at; run without -n")
    return Settings(
        found["netns_mode"], unavailable, found["netns_leaks"], found["netns_pcap"], pause, config.get_verbosity() >= 2
    )


def is_controller(config: pytest.Config) -> bool:
    """Whether this process leaves the tests to workers of pytest-xdist."""
    return bool(getattr(config.option, "numprocesses", None))


def _value(config: pytest.Config, name: str, choices: Sequence[str]) -> str:
    given = config.getoption(name)
    value = str(config.getini(name) if given is None else given)
    if value and value not in choices:
        where = f"--{name.replace('_', '-')}" if given is not None else f"{name} in the ini file"
        raise pytest.UsageError(f"{where}: {value!r} is not valid; choose one of: {', '.join(choices)}")
    return value


_INLINE = ("namespaces", "subnet", "subnet6", "masquerade", "forward")


def parse_marker(item: pytest.Item) -> Marker | None:
    """The closest ``netns`` marker of a test: on its parameters, else the function, its class, its module.

    Raises:
        pytest.UsageError: arguments the marker does not take.
    """
    of_parameters = [mark for mark in getattr(getattr(item, "callspec", None), "marks", ()) if mark.name == "netns"]
    mark = of_parameters[-1] if of_parameters else item.get_closest_marker("netns")
    if mark is None:
        return None
    inline = {key: value for key, value in mark.kwargs.items() if key in _INLINE}
    unknown = sorted(set(mark.kwargs) - {*_INLINE, "enter"})
    if unknown:
        valid = ", ".join([*_INLINE, "enter"])
        raise pytest.UsageError(f"{item.nodeid}: marker netns takes no argument {unknown[0]!r}; valid are: {valid}")
    if len(mark.args) > 1 or (mark.args and inline):
        raise pytest.UsageError(
            f"{item.nodeid}: marker netns takes one topology: the name of a picture, a path or a Topology, "
            f"or the inline form ({', '.join(_INLINE)}), not several"
        )
    return Marker(mark.args[0] if mark.args else None, inline, mark.kwargs.get("enter", "host"))


def heed_marker(item: pytest.Item) -> None:
    """Have a test with the marker use the fixture that puts its body inside.

    Raises:
        pytest.UsageError: arguments the marker does not take.
    """
    item.stash[MARKER] = marker = parse_marker(item)
    if marker is not None:
        # A fixture of its own where it has to come after what replaces `netns`.
        _use_first(item, BODY_INSIDE if _is_replaced(item, "netns") else "netns")


def _use_first(item: pytest.Item, name: str) -> None:
    """Have a test use a fixture as the first of its function-scoped ones, after all that outlive the test."""
    given: Sequence[str] | None = getattr(item, "fixturenames", None)
    if given is None:
        return
    names = [each for each in given if each != name]  # a list of its own: tests of one function share theirs
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    scopes = [known[each][-1].scope if known.get(each) else "function" for each in names]
    names.insert(scopes.index("function") if "function" in scopes else len(names), name)
    item.fixturenames = names  # type: ignore[attr-defined]


def _is_replaced(item: pytest.Item, name: str) -> bool:
    """Whether a test sees another fixture of that name than the plugin's, or a parameter; so too where pytest does not say."""
    if name in getattr(getattr(item, "callspec", None), "params", ()):  # which may also give it another scope
        return True
    manager = getattr(item.session, "_fixturemanager", None)
    return manager is None or len(manager.getfixturedefs(name, item) or ()) != 1


def leak_report(nodeid: str, message: str) -> pytest.TestReport:
    """An error at the teardown of a test that is long over."""
    path = nodeid.split("::")[0]
    location = (path, None, nodeid)
    return pytest.TestReport(nodeid, location, {}, "failed", message, "teardown")

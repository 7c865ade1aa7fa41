"""What the user has set - ini file, command line, marker arguments - parsed once into frozen values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

MARKER_HELP = (
    "netns(topology=None, *, enter='host', namespaces=[...], subnet=..., subnet6=..., masquerade=False, "
    "forward={port: target}): run the test's body inside a network of its own; topology is 'pair', 'lan', 'nat', "
    "a .toml file or a Topology"
)
MODES = ("auto", "root", "rootless")
UNAVAILABLE = ("skip", "fail")
LEAKS = ("warn", "error")

_OPTIONS = {
    "netns_mode": (MODES, "auto", "how to get network namespaces: with privilege, in a user namespace, or as it fits"),
    "netns_unavailable": (
        UNAVAILABLE,
        "",
        "what becomes of tests this machine cannot run (default: fail in CI, else skip)",
    ),
    "netns_leaks": (LEAKS, "warn", "what becomes of a namespace that something keeps alive after its test"),
}


@dataclass(frozen=True)
class Settings:
    """The options, each with the meaning its help text gives."""

    mode: str
    unavailable: str
    leaks: str


@dataclass(frozen=True)
class Marker:
    """A ``netns`` marker.

    Attributes:
        topology: the name of a picture, a path, a Topology, or None.
        inline: the keyword arguments of the inline form.
        enter: the namespace the test's body runs in; None for none.
    """

    topology: Any
    inline: Mapping[str, Any]
    enter: str | None


def add_options(parser: pytest.Parser) -> None:
    """Register each option for the ini file and the command line."""
    group = parser.getgroup("netns", "network namespaces")
    for name, (choices, default, help_) in _OPTIONS.items():
        text = f"{help_}: {', '.join(choices)}"
        if default:
            text += f" (default: {default})"
        parser.addini(name, text, default=default)
        group.addoption(f"--{name.replace('_', '-')}", dest=name, metavar="|".join(choices), help=text)


def parse(config: pytest.Config) -> Settings:
    """The settings in force.

    Raises:
        pytest.UsageError: a value that is not among the choices.
    """
    found = {name: _value(config, name, choices) for name, (choices, _, _) in _OPTIONS.items()}
    unavailable = found["netns_unavailable"] or ("fail" if os.environ.get("CI") else "skip")
    return Settings(mode=found["netns_mode"], unavailable=unavailable, leaks=found["netns_leaks"])


def _value(config: pytest.Config, name: str, choices: Sequence[str]) -> str:
    given = config.getoption(name)
    value = str(config.getini(name) if given is None else given)
    if value and value not in choices:
        where = f"--{name.replace('_', '-')}" if given is not None else f"{name} in the ini file"
        raise pytest.UsageError(f"{where}: {value!r} is not valid; choose one of: {', '.join(choices)}")
    return value


_INLINE = ("namespaces", "subnet", "subnet6", "masquerade", "forward")


def parse_marker(item: pytest.Item) -> Marker | None:
    """The closest ``netns`` marker of a test: on the function, else its class, else its module.

    Raises:
        pytest.UsageError: arguments the marker does not take.
    """
    mark = item.get_closest_marker("netns")
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


def add_fixture(item: pytest.Item, name: str) -> None:
    """Have a test use a fixture as the first of its function-scoped ones, after all that outlive the test."""
    names: list[str] | None = getattr(item, "fixturenames", None)
    if names is None or name in names:
        return
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    scopes = [known[each][-1].scope if known.get(each) else "function" for each in names]
    names.insert(scopes.index("function") if "function" in scopes else len(names), name)


def leak_report(nodeid: str, message: str) -> pytest.TestReport:
    """An error at the teardown of a test that is long over."""
    path = nodeid.split("::")[0]
    location = (path, None, nodeid)
    return pytest.TestReport(nodeid, location, {}, "failed", f"netns: {message}", "teardown")

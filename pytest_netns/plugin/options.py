"""The options of the ini file and the command line, parsed once into frozen values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import pytest

MODES = ("auto", "root", "rootless")
UNAVAILABLE = ("skip", "fail")
LEAKS = ("warn", "error")
PCAP = ("failed", "all", "off")
UPLINK = ("off", "slirp4netns")
ENGINES = ("auto", "netem", "userspace")

_OPTIONS = {
    "netns_mode": (
        MODES,
        "auto",
        "how to get network namespaces: with privilege, in a user namespace, or whichever works",
    ),
    "netns_unavailable": (
        UNAVAILABLE,
        "",
        "whether tests this machine cannot run are skipped or fail (default: fail in CI, else skip)",
    ),
    "netns_pcap": (PCAP, "failed", "the tests whose packets are kept, in .netns-pcap/TEST.pcapng below the root"),
    "netns_impairments": (
        ENGINES,
        "auto",
        "the engine that impairs links: the kernel's netem, the user-space wire, or netem if the kernel has it",
    ),
    "netns_uplink": (
        UPLINK,
        "off",
        "in rootless mode, whether ns.add_uplink() can be used: its helper starts before the move",
    ),
    "netns_leaks": (LEAKS, "warn", "how a namespace that is kept alive after its test is reported"),
}


class Settings(NamedTuple):
    """The options, each with the meaning its help text gives."""

    mode: str
    unavailable: str
    leaks: str
    pcap: str
    pause: bool
    whole: bool
    seed: int | None
    impairments: str = "auto"
    uplink: str = "off"


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
        help="when a test fails, print how to enter its namespaces, and wait for Enter before they are removed",
    )
    group.addoption(
        "--netns-seed",
        metavar="NUMBER",
        help="replay the random numbers of faults: of impairments and of nemesis schedules; a failed test's report shows it",
    )


def parse(config: pytest.Config) -> Settings:
    """The settings in force.

    Raises:
        pytest.UsageError: a value that is not among the choices.
    """
    values = {name: _value(config, name, choices) for name, (choices, _, _) in _OPTIONS.items()}
    unavailable = values["netns_unavailable"] or ("fail" if os.environ.get("CI") else "skip")
    pause = bool(config.getoption("--netns-pause"))
    if pause and is_controller(config):
        raise pytest.UsageError("--netns-pause: xdist workers have no terminal; run without -n")
    return Settings(
        values["netns_mode"],
        unavailable,
        values["netns_leaks"],
        values["netns_pcap"],
        pause,
        config.get_verbosity() >= 2,
        _seed(config),
        values["netns_impairments"],
        values["netns_uplink"],
    )


def _seed(config: pytest.Config) -> int | None:
    """The run's seed, if given; an xdist worker uses that of its controller."""
    given = config.getoption("--netns-seed")
    if given is None:
        inherited: int | None = getattr(config, "workerinput", {}).get("netns_seed")
        return inherited
    if not (str(given).isascii() and str(given).isdigit()):
        raise pytest.UsageError(f"--netns-seed: {given!r} is not valid; write a whole number, such as 42")
    return int(given)


def is_controller(config: pytest.Config) -> bool:
    """Whether this process is a controller of pytest-xdist."""
    return bool(getattr(config.option, "numprocesses", None))


def _value(config: pytest.Config, name: str, choices: Sequence[str]) -> str:
    given = config.getoption(name)
    value = str(config.getini(name) if given is None else given)
    if value and value not in choices:
        where = f"--{name.replace('_', '-')}" if given is not None else f"{name} in the ini file"
        raise pytest.UsageError(f"{where}: {value!r} is not valid; choose one of: {', '.join(choices)}")
    return value

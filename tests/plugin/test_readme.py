"""Every code block of the README and of docs/ does what the page says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pytest_netns import Lab, Topology

ROOT = Path(__file__).parents[2]
BLOCKS = [
    (f"{page.stem} line {page.read_text()[: match.start()].count(chr(10)) + 1}", match[1], match[2])
    for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
]
PROGRAMS = {"pytest": [sys.executable, "-m", "pytest"], "pytest-netns": [sys.executable, "-m", "pytest_netns"]}


def blocks(*languages: str) -> list[object]:
    """The blocks in these languages, as parameters."""
    return [pytest.param(text, id=where) for where, language, text in BLOCKS if language in languages]


def test_every_block_says_what_it_is() -> None:
    """A block in a language that nothing below runs would be untested."""
    assert {language for _, language, _ in BLOCKS} == {"python", "toml", "yaml", "console", "text"}


@pytest.mark.parametrize("text", blocks("python"))
def test_python(text: str, pytester: pytest.Pytester) -> None:
    """A Python block is a test file, and its tests pass; one that skips itself may be skipped."""
    pytester.makepyfile(text)
    result = pytester.runpytest_subprocess("-q", "--strict-markers", "-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert result.ret == 0
    skipped = outcomes.get("skipped", 0) if "pytest.skip(" in text else 0
    assert outcomes.get("passed", 0) + skipped == len(re.findall(r"^ *(?:async )?def test_", text, re.MULTILINE))


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml(text: str) -> None:
    """A TOML block is a topology that can be built."""
    with Lab() as lab:
        lab.build(Topology.loads(text))
        assert len(lab)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml(text: str) -> None:
    """A YAML block is valid, and all options of the plugin in it are known to pytest."""
    assert yaml.safe_load(text)
    known = subprocess.run([*PROGRAMS["pytest"], "--help"], check=True, capture_output=True, text=True).stdout
    assert all(option in known for option in re.findall(r"--netns-[a-z]+", text))


@pytest.mark.parametrize("text", blocks("console"))
def test_console(text: str, pytester: pytest.Pytester) -> None:
    """The commands of a console block, after `$`, succeed, in a directory with the office.toml of this page."""
    pytester.path.joinpath("office.toml").write_text(next(text for _, language, text in BLOCKS if language == "toml"))
    commands = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
    assert commands
    for command in commands:
        program, *arguments = shlex.split(command, comments=True)
        argv = [*PROGRAMS[program], *arguments]
        subprocess.run(argv, check=True, cwd=pytester.path, timeout=60, stdin=subprocess.DEVNULL)

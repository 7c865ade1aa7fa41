"""Every folder of examples is a suite of its own that a user can copy."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(path.parent.name for path in EXAMPLES.glob("*/test_*.py"))


def test_there_are_examples() -> None:
    """The picture and the web application at least."""
    assert {"picture", "webapp"} <= set(FOLDERS)


@pytest.mark.parametrize("folder", sorted(set(FOLDERS)))
def test_example(folder: str, pytester: pytest.Pytester) -> None:
    """A copy of the folder, elsewhere and alone, passes in whole."""
    shutil.copytree(EXAMPLES / folder, pytester.path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    pytester.chdir()
    result = pytester.runpytest_subprocess(
        f"--rootdir={pytester.path / folder}",
        "-c",
        str(pytester.path / folder / "pytest.ini"),
        "-p",
        "no:cacheprovider",
        "--netns-unavailable=fail",
        "--junitxml=result.xml",
        folder,
    )
    suite = ET.parse(pytester.path / "result.xml").getroot().find("testsuite")
    assert suite is not None
    assert int(suite.attrib["tests"]) > 0
    assert suite.attrib["skipped"] == "0"
    assert result.ret == 0

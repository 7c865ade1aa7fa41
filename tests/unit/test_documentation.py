"""The README and docs/: links are valid, and tables are complete."""

from __future__ import annotations

import re
from pathlib import Path
from unittest.mock import Mock

import pytest

from pytest_netns.plugin import options

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
LINKS = [
    pytest.param(page, target, id=f"{page.name} to {target}")
    for page in PAGES
    for target in dict.fromkeys(re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")))
    if not target.startswith("http")
]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_links_lead_somewhere(page: Path, target: str) -> None:
    """A link within the documentation names an existing file, and an existing heading in it."""
    path, _, anchor = target.partition("#")
    found = (page.parent / path) if path else page
    assert found.exists()
    assert not anchor or anchor in anchors(found)


@pytest.mark.parametrize("page", PAGES[2:], ids=lambda page: page.name)
def test_the_readme_lists_every_page(page: Path) -> None:
    """Each page of docs/ is in the list of the README."""
    assert f"[docs/{page.name}](docs/{page.name})" in README.split("## Documentation")[1].split("\n## ")[0]


def test_the_readme_lists_every_example() -> None:
    """Each directory of examples is in its table."""
    folders = {path.parent.name for path in ROOT.glob("examples/*/test_*.py")}
    assert set(re.findall(r"^\| `examples/(\w+)`", README, re.MULTILINE)) == folders


def test_the_readme_lists_every_option() -> None:
    """Each option of the command line and of the ini file is in its table, with its values."""
    parser = Mock(pytest.Parser)
    options.add_options(parser)
    table = README.split("## Options")[1].split("\n## ")[0]
    for call in parser.getgroup.return_value.addoption.call_args_list:
        choices = call.kwargs.get("metavar", "").split("|")
        assert f"`{call.args[0]}`" in table
        assert len(choices) == 1 or all(f"`{choice}`" in table for choice in choices)
    for call in parser.addini.call_args_list:
        assert f"`{call.args[0]}`" in table

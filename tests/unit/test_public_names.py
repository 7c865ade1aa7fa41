"""Everything users get has a public name, is documented, and rejects mistakes."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pytest_netns
from pytest_netns import NetnsError

PACKAGE = Path(pytest_netns.__file__).parent
ROOT = PACKAGE.parent
PAGES = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md")))
CLASSES: list[type[Any]] = [
    each for name in pytest_netns.__all__ if isinstance(each := getattr(pytest_netns, name), type)
]

# The plugin's internal classes: attributes of these types are internal too.
INTERNAL = {"Gateway", "Impairments", "Key", "LabLinks", "Link", "Links", "Note", "Part", "Programs", "Rules"}


def defined_classes() -> dict[str, set[str]]:
    """The names of all classes of the package, with those of their bases."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py"))
    found = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return {node.name: set(map(ast.unparse, node.bases)) for node in found}


DEFINED = defined_classes()


def handed_out(kind: type[Any]) -> Iterator[tuple[str, str]]:
    """The public members of a class, with the annotations of their results or values."""
    for base in kind.__mro__:
        if not base.__module__.startswith("pytest_netns"):
            continue
        for name, annotation in vars(base).get("__annotations__", {}).items():
            yield name, str(annotation)
        for name, member in vars(base).items():
            function = member.fget if isinstance(member, property) else getattr(member, "func", member)
            if callable(function):
                yield (
                    name,
                    str(inspect.unwrap(function).__annotations__.get("return", ""))
                    if hasattr(function, "__annotations__")
                    else "",
                )


@pytest.mark.parametrize("name", pytest_netns.__all__)
def test_documented(name: str) -> None:
    """Each public name is in the README or in docs/."""
    assert re.search(rf"\b{name}\b", PAGES)


def test_listed_once_and_in_order() -> None:
    """The list of public names is sorted."""
    assert pytest_netns.__all__ == sorted(set(pytest_netns.__all__), key=str.lower)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_what_methods_return_is_public(kind: type[Any]) -> None:
    """A class of ours that a public method returns, or an attribute holds, can be imported by its users."""
    ours = DEFINED.keys() - INTERNAL
    found = {
        f"{name}: {word}"
        for name, annotation in handed_out(kind)
        if not name.startswith("_") or name in ("__enter__", "__getitem__", "__iter__")
        for word in re.findall(r"\w+", annotation)
        if word in ours and word not in pytest_netns.__all__
    }
    assert found == set(), "add it to __all__, or to INTERNAL if no user needs the attribute"


def has_own(kind: type[object], method: str) -> bool:
    """Whether a class does not leave a method to object."""
    return getattr(kind, method) is not getattr(object, method)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_mistakes_in_attributes_are_refused(kind: type[Any]) -> None:
    """Values are frozen; handles have slots, or reject unknown attributes; both have a useful repr."""
    is_frozen = dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    has_slots = not kind.__dictoffset__
    is_error = issubclass(kind, Exception)
    is_protocol = getattr(kind, "_is_protocol", False)
    assert is_frozen or has_slots or is_error or is_protocol or has_own(kind, "__setattr__")
    assert is_protocol or has_own(kind, "__repr__")


def test_every_error_is_public() -> None:
    """Every error can be imported in order to catch it."""
    public = {kind.__name__ for kind in CLASSES if issubclass(kind, NetnsError)}
    assert {name for name, bases in DEFINED.items() if bases & public} <= public


REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
# Members that only the plugin's own modules use; all other public ones are described in docs/reference.md.
OWN_MEMBERS = {
    "at_end",
    "captures",
    "check_member",
    "check_open",
    "check_values",
    "close_rules",
    "close_streams",
    "description",
    "drops",
    "faults",
    "files",
    "has_built",
    "has_impairments",
    "impairments",
    "keys",
    "lab_closes",
    "leave",
    "link",
    "link_of",
    "links",
    "names",
    "names_of",
    "notes",
    "others",
    "packet_rules",
    "parts",
    "programs",
    "seeds",
    "settings",
    "start",
    "wait_for_output",
}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_members_are_in_the_reference(kind: type[Any]) -> None:
    """Each public member of a public class is described in docs/reference.md."""
    described = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", REFERENCE))))
    members = {name for name, _ in handed_out(kind) if not name.startswith("_")}
    missing = members - OWN_MEMBERS - described
    assert not missing, "describe them in docs/reference.md, or add them to OWN_MEMBERS if no user needs them"


SECTIONS = re.findall(r"^### `(\w+)`\n(.*?)(?=^##)", REFERENCE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("name", "text"), SECTIONS, ids=[name for name, _ in SECTIONS])
def test_the_reference_is_of_what_there_is(name: str, text: str) -> None:
    """Each member that docs/reference.md lists for a class exists."""
    kind = getattr(pytest_netns, name)
    first_cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    listed = {word for cell in first_cells for word in re.findall(r"`(\w+)(?:\(.*?\))?`", cell)}
    held = {each for base in kind.__mro__ for each in vars(base).get("__annotations__", {})}
    held |= set(re.findall(r"^ {4,8}([\w, ]+):", kind.__doc__ or "", re.MULTILINE))
    assert {each for each in listed if not hasattr(kind, each) and each not in held} == set()


PARTS = [
    (name, row)
    for row in re.findall(r"^\| `\w+Spec\(.*$|^\| `\w+End\(.*$", REFERENCE, re.MULTILINE)
    for name in re.findall(r"`(\w+(?:Spec|End))\(", row)
]


def test_all_parts_are_in_the_reference() -> None:
    """Every part of a topology has a row."""
    assert {name for name, _ in PARTS} == {name for name in pytest_netns.__all__ if name.endswith(("Spec", "End"))}


@pytest.mark.parametrize(("name", "row"), PARTS, ids=[name for name, _ in PARTS])
def test_arguments_of_parts_are_in_the_reference(name: str, row: str) -> None:
    """The row of a part names each of its arguments, and no other."""
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", row))))
    spellings = {"addresses", "gateways", "more"}  # attributes of what address and via take, and options by their names
    arguments = set(inspect.signature(getattr(pytest_netns, name)).parameters) - spellings
    assert arguments <= words

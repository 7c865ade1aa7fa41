"""The rules of the package: imports only point down, and no module uses another's private names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pytest_netns"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Every package, from the bottom up, and the packages it may use besides itself and the errors. A module belongs to the longest
# name here that its path below the package starts with.
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "__init__": {"errors", "lab", "faults", "running", "topology", "parts", "packets", "drawing", "machine", "plugin"},
    "values": set(),
    "parts": {"values"},
    "topology": {"parts", "values", "drawing"},
    "drawing": {"topology", "parts", "values"},
    "kernel": set(),
    "kernel/system": set(),
    "kernel/netlink": {"kernel/system", "values"},
    "kernel/nft": {"kernel/system"},
    "kernel/spaces": {"kernel/system", "kernel/netlink", "kernel/nft", "values"},
    "kernel/programs": {"kernel/system", "kernel/netlink", "kernel/spaces"},
    "packets": {"kernel"},
    "machine": {"kernel", "parts", "values"},
    "running": {"kernel", "values", "packets"},
    "faults": {"running", "parts", "values", "packets", "kernel", "machine"},
    "lab": {"faults", "drawing", "running", "topology", "parts", "values", "packets", "kernel", "machine"},
    "explaining/state": {"drawing", "parts", "values"},
    "explaining": {"lab", "faults", "running", "topology", "parts", "values", "packets", "drawing", "machine", "kernel"},
    "commands": {"explaining", "lab", "faults", "running", "topology", "drawing", "parts", "values", "machine", "kernel", "__init__"},
    "plugin": {"explaining", "lab", "faults", "running", "topology", "parts", "values", "packets", "machine", "kernel"},
    "__main__": {"commands"},
}  # fmt: skip


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE).with_suffix("")).removesuffix("/__init__")


def _room(name: str) -> str:
    return max((room for room in ROOMS if name == room or name.startswith(f"{room}/")), key=len, default="")


def _imports(path: Path) -> Iterator[str]:
    """All modules it imports anywhere, including those for type checking, as ``pytest_netns.lab.lab`` or ``os.path``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                place = PACKAGE.parent / inner.replace(".", "/")
                yield inner if place.with_suffix(".py").exists() or place.is_dir() else node.module or ""


def _upward(path: Path) -> set[tuple[str, str]]:
    name = _name(path)
    room = _room(name)
    found = set()
    for imported in _imports(path):
        if imported.split(".")[0] == PACKAGE.name:
            other = _room(imported.removeprefix(PACKAGE.name).lstrip(".").replace(".", "/") or "__init__")
            allowed = ROOMS[room] | {room, "errors"}
            if not any(other == each or other.startswith(f"{each}/") for each in allowed):
                found.add((name, other))
    return found


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_module_has_a_room(path: Path) -> None:
    """Every module belongs to a package with rules."""
    assert _room(_name(path)) or path == PACKAGE / "__init__.py", f"add a room for {_name(path)} to ROOMS"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_point_down(path: Path) -> None:
    """A package uses only the packages it may use, including imports for type checking."""
    if path == PACKAGE / "__init__.py":
        return
    assert _upward(path) == set()


def _foreign_private_uses(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)} | {"self", "cls", "os", "sys"}
    return [
        f"{_name(path)}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in own)
        and ast.unparse(node.value) != "super()"
    ]


def test_private_names_of_others_are_left_alone() -> None:
    """A name with a leading underscore is private to its module: used on self, super(), cls and the module's own classes only."""
    assert [use for path in MODULES for use in _foreign_private_uses(path)] == []


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_only_the_plugin_imports_pytest(path: Path) -> None:
    """The library is usable without pytest."""
    uses_pytest = any(name.split(".")[0] in ("pytest", "_pytest") for name in _imports(path))
    assert not uses_pytest or _room(_name(path)) == "plugin"


@pytest.mark.parametrize("name", ["explaining/state", "explaining/report", "packets/dissect", "packets/pcapng"])
def test_showing_knows_values_only(name: str) -> None:
    """The report is a function of values: only collecting them needs a kernel and a lab."""
    ours = {each for each in _imports(PACKAGE / f"{name}.py") if each.startswith("pytest_netns.")}
    rooms = {_room(each.removeprefix("pytest_netns.").replace(".", "/")) for each in ours}
    assert rooms <= {"errors", "values", "parts", "topology", "drawing", "packets", "explaining/state"}


@pytest.mark.parametrize(
    ("module", "only"),
    [
        ("pyroute2", {"kernel/netlink/messages", "lab/iproute", "lab/network"}),
        ("ctypes", {"kernel/system/syscalls"}),
        ("nftables", {"kernel/nft/nftables"}),
    ],
)
def test_one_place_for_each_way_into_the_kernel(module: str, only: set[str]) -> None:
    """One module makes system calls, one uses libnftables, one pyroute2's message classes; its own objects come from lab/iproute, and are named by the methods that return them."""
    users = {_name(path) for path in MODULES if module in {name.split(".")[0] for name in _imports(path)}}
    assert users <= only

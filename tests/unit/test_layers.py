"""The house rule: imports point down only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pytest_netns"
MODULES = sorted(PACKAGE.rglob("*.py"))
# Each module of ours may be imported at run time by those in later rows, never by earlier ones or its own.
VALUES = {"errors", "values", "naming", "nat", "topology", "drawing"}


def _imports(path: Path) -> set[str]:
    """Modules imported at run time: all but those under TYPE_CHECKING."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_kernel_imports_only_errors_from_above(path: Path) -> None:
    """What talks to Linux knows nothing of labs, values or pytest."""
    if path.parent.name != "kernel":
        return
    ours = {name for name in _imports(path) if name.startswith("pytest_netns.")}
    above = {name for name in ours if not name.startswith(("pytest_netns.kernel", "pytest_netns.errors"))}
    assert not above


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_plugin_and_settings_import_pytest(path: Path) -> None:
    """The library is usable without pytest."""
    uses_pytest = any(name.split(".")[0] in ("pytest", "_pytest") for name in _imports(path))
    assert uses_pytest == (path.name in ("plugin.py", "settings.py"))


@pytest.mark.parametrize("name", sorted(VALUES))
def test_values_import_only_values(name: str) -> None:
    """Names, addresses, NAT rules and topologies are plain values: they need no kernel and no lab."""
    for path in [*PACKAGE.glob(f"{name}.py"), *PACKAGE.glob(f"{name}/*.py")]:
        ours = {each.split(".")[1] for each in _imports(path) if each.startswith("pytest_netns.")}
        assert all(each.startswith(tuple(VALUES)) for each in ours), (path.name, ours)


@pytest.mark.parametrize("name", ["state", "report", "packets", "pcapng"])
def test_showing_knows_values_only(name: str) -> None:
    """What a report shows is a function of values: only collecting them needs a kernel and a lab."""
    ours = {each for each in _imports(PACKAGE / "explaining" / f"{name}.py") if each.startswith("pytest_netns.")}
    rooms = tuple(f"pytest_netns.{room}" for room in (*VALUES, "explaining.state", "explaining.packets"))
    assert all(each == "pytest_netns.explaining" or each.startswith(rooms) for each in ours), ours


@pytest.mark.parametrize(
    ("module", "only"),
    [("pyroute2", None), ("ctypes", {"kernel/syscalls.py"}), ("nftables", {"kernel/nftables.py"})],
)
def test_one_place_for_each_way_into_the_kernel(module: str, only: set[str] | None) -> None:
    """One module makes system calls, one uses libnftables; nothing imports pyroute2, which the tests use as oracle."""
    users = {str(path.relative_to(PACKAGE)) for path in MODULES if module in _imports(path)}
    assert users <= (only or set())

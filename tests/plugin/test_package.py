"""What users install: the wheel and the sdist are built, inspected, installed and used."""

from __future__ import annotations

import email
import importlib.metadata
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel built from it."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_wheel_contents(built: Path) -> None:
    """The wheel has the whole package, its type marker, licence, entry points and metadata, and nothing else."""
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (metadata_name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(wheel.read(metadata_name))
        entry_points = wheel.read(metadata_name.replace("METADATA", "entry_points.txt")).decode()
    package = {str(each.relative_to(ROOT)) for each in (ROOT / "pytest_netns").rglob("*") if each.suffix == ".py"}
    assert package <= names
    assert "pytest_netns/py.typed" in names
    assert all(name.startswith(("pytest_netns/", "pytest_netns-")) for name in names)
    assert metadata["License-Expression"] == "MIT"
    assert any(name.endswith("LICENSE") for name in names)
    classifiers = metadata.get_all("Classifier") or []
    assert {"Framework :: Pytest", "Typing :: Typed", "Operating System :: POSIX :: Linux"} <= set(classifiers)
    assert (metadata["Requires-Python"], metadata.get_all("Requires-Dist")) != (None, None)
    assert metadata["Requires-Python"] == ">=3.11"
    assert "pytest>=8.4" in (metadata.get_all("Requires-Dist") or [])
    assert "[pytest11]\nnetns = pytest_netns.plugin" in entry_points


def test_sdist_contents(built: Path) -> None:
    """The sdist has everything needed to build and to test."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    wanted = {"pyproject.toml", "LICENSE", "README.md", "conftest.py", "Makefile", "pytest_netns/py.typed", "PKG-INFO"}
    assert wanted <= names
    assert any(name.startswith("tests/kernel/") for name in names)
    assert any(name.startswith("examples/picture/") for name in names)
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", ".git/"))]


def test_the_installed_wheel_works(built: Path, tmp_path: Path) -> None:
    """In a new environment with only the wheel and pytest, the entry point provides the fixtures.

    Pytest rewrites only the modules that are imported before `rewriting`.
    """
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "venv", symlinks=True, with_pip=False)
    python = tmp_path / "venv/bin/python"
    site = tmp_path / f"venv/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True, timeout=120)
    _borrow(site, "pytest", "pluggy", "iniconfig", "packaging", "pygments")
    (tmp_path / "test_it.py").write_text(
        "import pytest_netns, pytest\n"
        "def test_it(netns_pair):\n"
        f"    assert pytest_netns.__file__.startswith({str(site)!r})\n"
        "    netns_pair['red'].run('ping -c1 -W2 192.168.15.2')\n"
        "@pytest.mark.netns('pair')\n"
        "def test_marked(netns): assert netns.host.name == 'host'\n"
    )
    done = subprocess.run(
        [
            python,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--strict-markers",
            "--netns-unavailable=fail",
            "test_it.py",
        ],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    rewritten = {path.relative_to(site).as_posix() for path in site.glob("pytest_netns/**/*-pytest-*.pyc")}
    assert {name.replace("__pycache__/", "").partition(".")[0] for name in rewritten} == {
        "pytest_netns/__init__",
        "pytest_netns/plugin/__init__",
        "pytest_netns/plugin/rewriting",
    }


def _borrow(site: Path, *names: str) -> None:
    """Make distributions of this environment available in another, since tests may run without a package index."""
    for name in names:
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            (site / top).symlink_to(str(distribution.locate_file(top)))

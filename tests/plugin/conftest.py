"""Common settings of all tests that run an inner pytest."""

from __future__ import annotations

import pytest

from tests.support import environments


@pytest.fixture(autouse=True)
def few_plugins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner runs load only the plugins they need."""
    if "pytester" in request.fixturenames:
        request.getfixturevalue("pytester")  # which removes PYTEST_ADDOPTS
    for name, value in environments.FEW_PLUGINS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def every_plugin(few_plugins: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner runs load all installed plugins, like users' runs."""
    for name in environments.FEW_PLUGINS:
        monkeypatch.delenv(name)

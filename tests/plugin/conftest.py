"""What all tests that run pytest again have in common."""

from __future__ import annotations

import pytest

from tests.support import environments


@pytest.fixture(autouse=True)
def few_plugins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs inside loads no plugin that it is not about."""
    if "pytester" in request.fixturenames:
        request.getfixturevalue("pytester")  # which removes PYTEST_ADDOPTS
    for name, value in environments.FEW_PLUGINS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def every_plugin(few_plugins: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs inside loads all plugins that are installed, as users' runs do."""
    for name in environments.FEW_PLUGINS:
        monkeypatch.delenv(name)

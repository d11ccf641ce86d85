"""Fixtures of the agent's unit tests."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Imported here: sqlite-utils takes a second, and only some tests need it.
    from edge_agent.model_schema import migrate

    path = tmp_path_factory.mktemp("models") / "models.db"
    migrate(path)
    return path


@pytest.fixture
def models_file(_migrated: Path, tmp_path: Path) -> Path:
    """An empty model file of the present schema, so that no child process has to make it."""
    return shutil.copy(_migrated, tmp_path / "models.db")

"""Fixtures that every test may use."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and published checkpoints; tests that need it skip where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the data and reference files in {SHARED}, which are not part of the repository")
    return SHARED

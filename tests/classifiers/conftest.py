"""Makes the factories of these tests importable by name."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def factories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

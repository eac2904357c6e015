"""One uninterrupted run that every wounded one must equal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import harness


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.kill)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Content digests of a run that nobody hurt."""
    out = tmp_path_factory.mktemp("reference")
    result = harness.sweeps("run", harness.STUDY, *harness.SMALL, "--out", str(out), "-q")
    assert result.returncode == 0, result.stderr
    found = harness.digests(out)
    assert len(found) == 10
    assert not harness.trained_twice(out)
    return found


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, packed once."""
    out = tmp_path_factory.mktemp("packed")
    assert harness.sweeps("data", "pack", "digits", "--out", str(out)).returncode == 0
    return out / "store" / "data"


@pytest.fixture
def start(tmp_path: Path, packed: Path) -> Iterator[Callable[..., harness.Living]]:
    """Starts commands and leaves none behind."""
    living: list[harness.Living] = []
    # The engine's rules are under test, not the decoding of the digits.
    shutil.copytree(packed, tmp_path / "store" / "data")

    def begin(*words: str, out: Path | None = None) -> harness.Living:
        living.append(harness.Living(out or tmp_path, *words))
        return living[-1]

    yield begin
    for one in living:
        one.end()

"""A desk on which what the documents say is typed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from desks import Desk


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk on which the first study was run once; what comes later finds its stages."""
    made = Desk(tmp_path_factory.mktemp("desk"))
    first = made.type_small(["python", "-m", "sweeps", "run", "horkd_order_ablation"])
    assert first.returncode == 0, first.stderr
    (made.folder / "demo.log").write_text(first.stderr + first.stdout, encoding="utf-8")
    return made

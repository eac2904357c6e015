"""What is said of data sets that break a contract; `test_registry.py` holds every one of ours to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainables.contracts import Broken, datasets
from trainables.contracts.datasets import OF_DATASETS
from trainables.data.packed import Items, open_packed
from trainables.data.packing import write_packed

TWICE, WELL, CUT, DECLARED = OF_DATASETS


def made(folder: Any, *, tested: int = 4, empty: bool = False) -> Any:
    """Ten images of each of two classes, `tested` of each for test."""
    labels = np.repeat([0, 1], 10).astype(np.int32)
    items = Items(
        images=np.random.RandomState(0).randint(0, 255, (20, 1, 4, 4)).astype(np.uint8),
        labels=labels,
        split=np.tile(np.arange(10) < tested, 2).astype(np.uint8),
        names=[str(n) for n in range(20)],
        classes=("a", "b", "c") if empty else ("a", "b"),
    )
    return open_packed(write_packed(folder, "made up", items).path)


@pytest.mark.parametrize(
    ("contract", "wrong", "told"),
    [
        (
            DECLARED,
            {},
            "images is 20, not 1797; classes is 2, not 10; train is 12, not 1258; test is 8, not 539; side is 4",
        ),
        (WELL, {"empty": True}, "2 of 3 classes have training images"),
        (CUT, {"tested": 10}, "training"),
    ],
)
def test_a_data_set_that_breaks_the_contract_is_told_how(
    contract: str, wrong: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "_pack", lambda name, root, folder: made(folder, **wrong))
    with pytest.raises(Exception, match=told) as caught:
        OF_DATASETS[contract]("digits")
    assert caught.type.__module__.startswith("trainables")
    assert contract != WELL or caught.type is Broken

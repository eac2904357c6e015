import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.packed import Items, Packed, draw_test_split, open_packed, write_packed


@pytest.fixture
def nasty_path(tmp_path: Path) -> Path:
    """A folder whose name has a space, quotes, a percent sign and letters beyond ASCII."""
    path = tmp_path / "my dåta 'é' 100% ☃"
    path.mkdir()
    return path


@pytest.fixture
def make_packed(tmp_path: Path) -> Callable[..., Packed]:
    def make(per_class: tuple[int, ...] = (40, 20, 10), side: int = 4, channels: int = 1) -> Packed:
        labels = np.repeat(np.arange(len(per_class), dtype=np.int32), per_class)
        images = (
            np.random.RandomState(0).randint(0, 256, (len(labels), channels, side, side)).astype(np.uint8)
        )
        split = draw_test_split(labels, fraction=0.2, seed=0)
        names = [f"item {index}" for index in range(len(labels))]
        classes = tuple(f"class {index}" for index in range(len(per_class)))
        items = Items(images=images, labels=labels, split=split, names=names, classes=classes)
        return open_packed(write_packed(tmp_path, "made", items).path)

    return make


@pytest.fixture
def make_images() -> Callable[..., Path]:
    """Writes class folders of noise; `modes` are given out in turn."""

    def make(
        root: Path,
        classes: tuple[str, ...] = ("cat", "dög"),
        count: int = 5,
        size: tuple[int, int] = (12, 9),
        modes: tuple[str, ...] = ("L",),
        suffix: str = ".png",
    ) -> Path:
        random = np.random.RandomState(len(classes))
        for name in classes:
            (root / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                mode = modes[index % len(modes)]
                shape = size[::-1] if mode == "L" else (*size[::-1], len(mode))
                pixels = random.randint(0, 256, shape).astype(np.uint8)
                Image.fromarray(pixels).save(root / name / f"image {index}{suffix}")
        return root

    return make


@pytest.fixture
def make_cifar() -> Callable[..., Path]:
    """Writes a small archive in the layout of CIFAR-10 or CIFAR-100."""

    def make(root: Path, name: str = "cifar100", rows: int = 20, protocol: int = 2) -> Path:
        random = np.random.RandomState(0)
        ten = name == "cifar10"
        folder = root / ("cifar-10-batches-py" if ten else "cifar-100-python")
        folder.mkdir(parents=True)
        train = [f"data_batch_{number}" for number in range(1, 6)] if ten else ["train"]
        for file in [*train, "test_batch" if ten else "test"]:
            content = {
                b"data": random.randint(0, 256, (rows, 3072)).astype(np.uint8),
                b"labels" if ten else b"fine_labels": [index % 4 for index in range(rows)],
                b"filenames": [f"{file}_{index}.png".encode() for index in range(rows)],
            }
            (folder / file).write_bytes(pickle.dumps(content, protocol=protocol))
        meta = {b"label_names" if ten else b"fine_label_names": [b"a", b"b", b"c", b"d"]}
        (folder / ("batches.meta" if ten else "meta")).write_bytes(pickle.dumps(meta, protocol=protocol))
        return root

    return make


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets that SWEEPS_TEST_DATA names."""
    named = os.environ.get("SWEEPS_TEST_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("SWEEPS_TEST_DATA names no folder of real data sets")
    return Path(named)

import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.packed import Items, Packed, open_packed
from trainables.data.packing import write_packed
from trainables.data.splits import draw_test_split


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
        images = np.random.RandomState(0).randint(0, 256, (len(labels), channels, side, side)).astype(np.uint8)
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


def write_image(path: Path, seed: int, side: int = 12, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (side, side) if mode == "L" else (side, side, 3)
    pixels = np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def make_tar() -> Callable[..., Path]:
    """Packs a folder into an archive beside it, by its suffix; the folder's name is the first part of all names."""

    def make(folder: Path, suffix: str = ".tar") -> Path:
        path = folder.with_name(folder.name + suffix)
        compression = {"gz": "gz", "tgz": "gz", "bz2": "bz2", "xz": "xz"}.get(suffix.rpartition(".")[2], "")
        with tarfile.open(path, f"w:{compression}") as archive:
            archive.add(folder, folder.name)
        return path

    return make


@pytest.fixture
def make_lfw() -> Callable[..., Path]:
    """Writes `lfw/` of six people and a list of two folds of one pair of a kind beside it; gives their folder."""

    def make(root: Path, pairs: str | None = None, mode: str = "L") -> Path:
        counts = {"Al_Gore": 2, "Bo": 1, "Cy": 3, "Di_Äß": 2, "Ed": 1, "Flo": 2}
        for seed, (person, count) in enumerate(counts.items()):
            for number in range(1, count + 1):
                write_image(root / "lfw" / person / f"{person}_{number:04d}.jpg", 10 * seed + number, mode=mode)
        listed = "2\t1\nAl_Gore\t1\t2\nAl_Gore\t1\tBo\t1\nCy\t1\t3\nCy\t2\tDi_Äß\t2\n"
        (root / "pairs.txt").write_text(listed if pairs is None else pairs, encoding="utf-8")
        return root

    return make


@pytest.fixture
def make_orl() -> Callable[..., Path]:
    """Writes `att_faces/` of 11 people with 3 images each, so that s10 must come after s9."""

    def make(root: Path) -> Path:
        for person in range(1, 12):
            for number in range(1, 4):
                path = root / "att_faces" / f"s{person}" / f"{number}.pgm"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((28, 23), 20 * person + number, np.uint8)).save(path)
        return root

    return make


@pytest.fixture
def make_cub() -> Callable[..., Path]:
    """Writes `CUB_200_2011/` of the classes 2, 7 and 11 with four images each, two of them for training."""

    def make(root: Path) -> Path:
        folder = root / "CUB_200_2011"
        lists: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": []}
        number = 0
        for kind in (2, 7, 11):
            for index in range(4):
                number += 1
                path = f"{kind:03d}.Bird_{kind}/Bird_{index}.jpg"
                write_image(folder / "images" / path, number, mode="L" if index else "RGB")
                lists["images"].append(f"{number} {path}")
                lists["image_class_labels"].append(f"{number} {kind}")
                lists["train_test_split"].append(f"{number} {int(index % 2 == 0)}")
        for name, lines in lists.items():
            (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
        (folder / "classes.txt").write_text("".join(f"{k} {k:03d}.Bird_{k}\n" for k in range(1, 13)))
        return root

    return make


@pytest.fixture
def make_sop() -> Callable[..., Path]:
    """Writes `Stanford_Online_Products/` of products 1, 2 for training and 3, 4 for test, three images each."""

    def make(root: Path) -> Path:
        folder = root / "Stanford_Online_Products"
        number = 0
        for name, products in (("Ebay_train.txt", (1, 2)), ("Ebay_test.txt", (3, 4))):
            lines = ["image_id class_id super_class_id path"]
            for product in products:
                for index in range(3):
                    number += 1
                    path = f"mug_final/11{product}_{index}.JPG"
                    write_image(folder / path, number, mode="RGB")
                    lines.append(f"{number} {product} 5 {path}")
            (folder / name).write_text("\n".join(lines) + "\n")
        return root

    return make


@pytest.fixture
def make_cars() -> Callable[..., Path]:
    """Writes `cars196/` of three models with two training and one test image each, in either release."""
    scipy_io = pytest.importorskip("scipy.io", reason="MATLAB's files need scipy")

    def make(root: Path, release: str = "parts") -> Path:
        folder, names = root / "cars196", np.array(["Audi A 1", "BMW 2", "Ram C/V 3"], dtype=object)
        rows: dict[str, list[tuple[object, ...]]] = {"train": [], "test": [], "all": []}
        number = 0
        for split, count in (("train", 2), ("test", 1)):
            for model in (3, 1, 2):
                for _ in range(count):
                    number += 1
                    file = f"{number:06d}.jpg"
                    write_image(folder / ("car_ims" if release == "whole" else f"cars_{split}") / file, number)
                    rows[split].append((model, file))
                    rows["all"].append((f"car_ims/{file}", model, int(split == "test")))
        devkit = folder / "devkit"
        devkit.mkdir()
        if release == "whole":
            types = [("relative_im_path", object), ("class", object), ("test", object)]
            content = {"annotations": np.array(rows["all"], dtype=types), "class_names": names}
            scipy_io.savemat(folder / "cars_annos.mat", content)
        else:
            types = [("class", object), ("fname", object)]
            for name, split in (("cars_train_annos", "train"), ("cars_test_annos_withlabels", "test")):
                scipy_io.savemat(devkit / f"{name}.mat", {"annotations": np.array(rows[split], dtype=types)})
            scipy_io.savemat(devkit / "cars_meta.mat", {"class_names": names})
        return root

    return make


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets that SWEEPS_TEST_DATA names."""
    named = os.environ.get("SWEEPS_TEST_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("SWEEPS_TEST_DATA names no folder of real data sets")
    return Path(named)

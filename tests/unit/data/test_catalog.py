import dataclasses
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from trainables.data import catalog
from trainables.data.packed import item_names, open_packed
from trainables.errors import DataError, DiskFullError, MachineError, UsageError
from trainables.spec import registry

PROJECT = Path(__file__).parents[3]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_digits_are_packed_and_found_again(nasty_path):
    source = catalog.locate("digits", data_root=None)
    assert catalog.find_packed(source, nasty_path) is None
    info = catalog.pack(source, nasty_path)
    assert (info.name, info.train_images + info.test_images) == ("digits", source.images)
    assert catalog.find_packed(source, nasty_path) == info == catalog.pack(source, nasty_path)
    assert info.fingerprint == "0f862bb9940afa32"
    assert all(row.ok for row in catalog.check(open_packed(info.path)))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_found_above_and_in_its_folder(nasty_path, make_cifar, name):
    root = make_cifar(nasty_path, name)
    above = catalog.locate(name, data_root=root)
    inside = catalog.locate(name, data_root=above.path)
    assert above == inside and above.name == name
    info = catalog.pack(above, nasty_path / "packed")
    assert (info.channels, info.height, info.width, info.test_images) == (3, 32, 32, 20)


def test_a_folder_is_packed_at_its_size(nasty_path, make_images):
    make_images(nasty_path / "birds")
    small = catalog.locate(f"folder:{nasty_path / 'birds'}", data_root=None, size=8)
    usual = catalog.locate(f"folder:{nasty_path / 'birds'}", data_root=None)
    assert small.name == usual.name == "folder:birds" and small.identity != usual.identity
    assert catalog.pack(small, nasty_path / "packed").height == 8
    assert catalog.pack(usual, nasty_path / "packed").height == 64
    assert catalog.find_packed(small, nasty_path / "packed").height == 8


def test_a_changed_source_is_another_one(tmp_path, make_images):
    make_images(tmp_path / "birds")
    first = catalog.locate(f"folder:{tmp_path / 'birds'}", data_root=None, size=4)
    info = catalog.pack(first, tmp_path / "packed")
    os.utime(tmp_path / "birds" / "cat" / "image 0.png", (1, 1))
    touched = catalog.locate(f"folder:{tmp_path / 'birds'}", data_root=None, size=4)
    assert touched.identity != first.identity and catalog.find_packed(touched, tmp_path / "packed") is None
    assert catalog.pack(touched, tmp_path / "packed") == info  # Equal pixels are one file.
    (tmp_path / "birds" / "cat" / "image 0.png").unlink()
    fewer = catalog.locate(f"folder:{tmp_path / 'birds'}", data_root=None, size=4)
    assert catalog.pack(fewer, tmp_path / "packed").fingerprint != info.fingerprint


def test_equal_data_under_two_names_is_one_file_with_both_names(tmp_path, make_images):
    make_images(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    found = [
        catalog.pack(catalog.locate(f"folder:{tmp_path / name}", data_root=None, size=4), tmp_path / "packed")
        for name in ("one", "two")
    ]
    assert [info.name for info in found] == ["folder:one", "folder:two"]
    assert found[0].path == found[1].path


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sources": 3}', '{"sources": {"a": 1}}'])
def test_a_damaged_index_costs_only_time(tmp_path, content):
    source = catalog.locate("digits", data_root=None)
    info = catalog.pack(source, tmp_path)
    (tmp_path / "index.json").write_text(content)
    assert catalog.find_packed(source, tmp_path) is None
    assert catalog.pack(source, tmp_path) == info == catalog.find_packed(source, tmp_path)


def test_a_removed_a_cut_and_an_altered_file_are_packed_again(tmp_path):
    source = catalog.locate("digits", data_root=None)
    info = catalog.pack(source, tmp_path)
    whole = info.path.read_bytes()
    info.path.unlink()
    assert catalog.find_packed(source, tmp_path) is None
    assert catalog.pack(source, tmp_path) == info
    os.truncate(info.path, 5000)
    with pytest.raises(DataError, match="was cut: 5000 of"):
        catalog.find_packed(source, tmp_path)
    assert catalog.pack(source, tmp_path) == info
    with open(info.path, "r+b") as file:
        file.seek(len(whole) // 2)
        file.write(bytes(8192))
    assert catalog.find_packed(source, tmp_path) == info, "its size tells nothing"
    assert catalog.whole_packed(source, tmp_path) is None
    assert catalog.pack(source, tmp_path) == info
    assert info.path.read_bytes() == whole
    assert names(tmp_path) == [".lock", info.path.name, "index.json"]


def test_a_large_file_is_read_before_a_run_only_when_a_reader_found_it_altered(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "VERIFIED_BYTES", 1000)
    source = catalog.locate("digits", data_root=None)
    info = catalog.pack(source, tmp_path)
    with open(info.path, "r+b") as file:
        file.seek(info.bytes // 2)
        file.write(bytes(8192))
    assert catalog.whole_packed(source, tmp_path) == info
    packed = open_packed(info.path)
    with pytest.raises(DataError):
        packed.pixels(np.arange(len(packed.labels)))
    assert catalog.whole_packed(source, tmp_path) is None
    assert catalog.pack(source, tmp_path) == info
    assert catalog.whole_packed(source, tmp_path) == info


def test_what_a_killed_packer_left_is_cleared(tmp_path):
    (tmp_path / ".0123456789abcdef.99.tmp").write_bytes(b"half")
    info = catalog.pack(catalog.locate("digits", data_root=None), tmp_path)
    assert names(tmp_path) == [".lock", info.path.name, "index.json"]


PACKER = """
import sys
from pathlib import Path
from trainables.data import catalog

source = catalog.locate(sys.argv[1], data_root=None, size=4)
decoded = []
print("ready", flush=True)
info = catalog.pack(source, Path(sys.argv[2]), progress=lambda done, total: decoded.append(done))
print(info.fingerprint, bool(decoded), "torch" in sys.modules)
"""


def test_two_packers_at_once_pack_once(tmp_path, make_images):
    make_images(tmp_path / "birds")
    folder = tmp_path / "packed"
    folder.mkdir()
    with open(folder / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-c", PACKER, f"folder:{tmp_path / 'birds'}", str(folder)]
        packers = [subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for packer in packers:
            assert packer.stdout.readline() == "ready\n"
    answers = [packer.communicate(timeout=60)[0].split() for packer in packers]
    assert [packer.returncode for packer in packers] == [0, 0]
    assert sorted(decoded for _, decoded, _ in answers) == ["False", "True"]
    assert answers[0][0] == answers[1][0]
    assert {torch for _, _, torch in answers} == {"False"}
    assert len(json.loads((folder / "index.json").read_text())["sources"]) == 1


@pytest.mark.parametrize("limit", [100, 20_000, 149_000])
def test_a_disk_that_fills_up_leaves_no_half_file(tmp_path, limit):
    source = catalog.locate("digits", data_root=None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DiskFullError, match=r"cannot be packed into .* Make room"):
            catalog.pack(source, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == [".lock"]


def test_a_disk_that_fills_up_while_decoding_leaves_no_half_file(tmp_path, make_images):
    make_images(tmp_path / "birds")
    source = catalog.locate(f"folder:{tmp_path / 'birds'}", data_root=None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(DiskFullError):
            catalog.pack(source, tmp_path / "packed")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path / "packed") == [".lock"]


def test_a_disk_with_too_little_room_is_refused_before_decoding(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DiskFullError, match="only 0 MiB are free"):
        catalog.pack(catalog.locate("digits", data_root=None), tmp_path)


def test_a_target_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="must be a folder, but a file"):
        catalog.pack(catalog.locate("digits", data_root=None), tmp_path / "file")


@pytest.mark.parametrize(
    "data, hint",
    [("cifar-100", "cifar100"), ("digts", "digits"), ("CIFAR10", "cifar10"), ("CUB-200", "cub200"), ("LFW", "lfw")],
)
def test_unknown_names_get_a_hint(data, hint):
    with pytest.raises(UsageError, match=f"Did you mean '{hint}'"):
        catalog.locate(data, data_root=None)


def test_a_bare_path_gets_a_hint(tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'folder:/"):
        catalog.locate(str(tmp_path), data_root=None)


@pytest.mark.parametrize("data, size", [("digits", 16), ("cifar100", 64), ("folder:x", 0), ("folder:x", 5000)])
def test_impossible_sizes_are_refused(data, size):
    with pytest.raises(UsageError, match="size"):
        catalog.locate(data, data_root=None, size=size)


def test_a_folder_needs_a_path():
    with pytest.raises(UsageError, match="followed by a path"):
        catalog.locate("folder:", data_root=None)


@pytest.mark.parametrize("path", ["x" * 5000, "missing", "~nobody-of-this-name/x"])
def test_folders_that_cannot_be_are_told(path):
    with pytest.raises(DataError):
        catalog.locate(f"folder:{path}", data_root=None)


def test_missing_cifar_is_told_with_what_was_expected_where(tmp_path, make_cifar):
    with pytest.raises(DataError, match="needs a data root"):
        catalog.locate("cifar10", data_root=None)
    with pytest.raises(DataError, match=r"cifar-100-python is not there\. Unpack the archive there"):
        catalog.locate("cifar100", data_root=tmp_path)
    make_cifar(tmp_path, "cifar10")
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(DataError, match=r"lacks data_batch_3\."):
        catalog.locate("cifar10", data_root=tmp_path)


def test_check_tells_what_is_in_a_folder(tmp_path, make_images):
    make_images(tmp_path / "birds", count=7)
    (tmp_path / "birds" / "cat" / "notes.txt").touch()
    rows = catalog.check(catalog.locate(f"folder:{tmp_path / 'birds'}", data_root=None))
    assert all(row.ok for row in rows)
    assert [row.message for row in rows[1:]] == [
        "14 images of 2 classes, 7 to 7 each",
        "no split of its own: 20 % of each class are drawn for test",
        "0 of 2 test files are also in training, byte for byte",
        "1 passed over (no image): 1 .txt: cat/notes.txt",
    ]


def test_check_finds_test_images_that_were_trained(tmp_path, make_images):
    make_images(tmp_path / "train", ("a", "b"))
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    source = catalog.locate(f"folder:{tmp_path}", data_root=None, size=4)
    rows = catalog.check(open_packed(catalog.pack(source, tmp_path / "packed").path))
    assert rows[-1].message == "10 of 10 test images are also in training, pixel for pixel" and not rows[-1].ok


def test_check_finds_altered_pixels(make_packed):
    packed = make_packed()
    content = bytearray(packed.info.path.read_bytes())
    content[bytes(content).index(packed.images[0].tobytes())] ^= 1
    packed.info.path.write_bytes(content)
    assert [row.ok for row in catalog.check(open_packed(packed.info.path))][1] is False


def test_lfw_is_packed_with_its_pairs(nasty_path, make_lfw):
    source = catalog.locate("lfw", data_root=make_lfw(nasty_path), size=8)
    packed = open_packed(catalog.pack(source, nasty_path / "packed").path, verify=True)
    info = packed.info
    assert (info.name, info.channels, info.height, info.width, len(info.classes)) == ("lfw", 1, 8, 8, 6)
    assert (info.train_images, info.test_images, info.pairs) == (11, 0, 4)
    assert packed.pairs.tolist() == [[1, 0, 1, 1], [1, 0, 2, 0], [2, 3, 5, 1], [2, 4, 7, 0]]
    same = packed.labels[packed.pairs[:, 1]] == packed.labels[packed.pairs[:, 2]]
    assert same.tolist() == packed.pairs[:, 3].astype(bool).tolist()
    assert catalog.find_packed(source, nasty_path / "packed") == info
    assert catalog.protocols_of(info) == ("verification", "identification", "retrieval")


def test_other_pairs_are_another_data_set(tmp_path, make_lfw):
    first = catalog.pack(catalog.locate("lfw", data_root=make_lfw(tmp_path), size=8), tmp_path / "packed")
    (tmp_path / "pairs.txt").write_text("1\nCy\t1\t3\nCy\t2\tBo\t1\n")
    other = catalog.pack(catalog.locate("lfw", data_root=tmp_path, size=8), tmp_path / "packed")
    assert other.fingerprint != first.fingerprint and other.pairs == 2


@pytest.mark.parametrize("size, side", [(None, 12), (64, 12), (12, 12), (7, 7)])
def test_named_sets_are_reduced_but_never_enlarged(tmp_path, make_lfw, size, side):
    info = catalog.pack(catalog.locate("lfw", data_root=make_lfw(tmp_path), size=size), tmp_path / "packed")
    assert (info.height, info.width) == (side, side)


def test_orl_is_packed_as_its_centre_square(tmp_path, make_orl):
    packed = open_packed(catalog.pack(catalog.locate("orl", data_root=make_orl(tmp_path)), tmp_path / "p").path)
    assert packed.images.shape == (33, 1, 23, 23)
    assert packed.images[:, 0, 5, 5].tolist() == [20 * p + n for p in range(1, 12) for n in range(1, 4)]
    assert (packed.info.train_images, packed.info.test_images) == (22, 11)
    assert "classification" in catalog.protocols_of(packed.info)


@pytest.mark.parametrize("mode, channels", [("L", 1), ("RGB", 3)])
def test_faces_are_grey_if_all_are(tmp_path, make_lfw, mode, channels):
    source = catalog.locate("lfw", data_root=make_lfw(tmp_path, mode=mode), size=4)
    assert catalog.pack(source, tmp_path / "packed").channels == channels


def test_birds_are_in_colour_with_their_own_split(tmp_path, make_cub):
    info = catalog.pack(catalog.locate("cub200", data_root=make_cub(tmp_path)), tmp_path / "packed")
    assert (info.channels, info.height, info.train_images, info.test_images) == (3, 12, 6, 6)


def test_a_folder_and_its_archive_are_packed_into_one_file(tmp_path, make_cub, make_tar):
    loose = catalog.pack(catalog.locate("cub200", data_root=make_cub(tmp_path)), tmp_path / "packed")
    for suffix in (".tar", ".tgz"):
        archive = make_tar(tmp_path / "CUB_200_2011", suffix)
        assert catalog.pack(catalog.locate("cub200", data_root=archive), tmp_path / "packed") == loose


def test_a_disk_with_too_little_room_for_the_images_is_refused(tmp_path, make_lfw, monkeypatch):
    source = catalog.locate("lfw", data_root=make_lfw(tmp_path), size=8)
    usage = shutil.disk_usage(tmp_path)
    # 11 grey images of 64 bytes, as blocks and as a file.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * 11 * 64 - 1))
    with pytest.raises(DiskFullError, match="Packing `lfw` takes about 0 MiB"):
        catalog.pack(source, tmp_path / "packed")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * 11 * 64))
    assert catalog.pack(source, tmp_path / "packed").train_images == 11


def test_who_waits_for_another_packer_is_told_once(tmp_path):
    source = catalog.locate("digits", data_root=None)
    told = []
    catalog.pack(source, tmp_path, waiting=lambda: told.append("free"))
    with open(tmp_path / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def give_way():
            told.append("waiting")
            fcntl.flock(lock, fcntl.LOCK_UN)

        catalog.pack(source, tmp_path, waiting=give_way)
    assert told == ["waiting"]


def test_what_cannot_be_fetched_says_where_to_put_it(tmp_path):
    with pytest.raises(UsageError, match=r"`lfw` cannot be fetched for you .* Put it as <data root>/lfw/"):
        catalog.download("lfw", tmp_path)


def messages(source):
    return [row.message for row in catalog.check(source)]


def test_check_compares_lfw_with_the_known_counts_and_its_folds(tmp_path, make_lfw):
    source = catalog.locate("lfw", data_root=make_lfw(tmp_path), size=8)
    rows = catalog.check(source)
    assert all(row.ok for row in rows)
    assert [row.message for row in rows[1:]] == [
        "11 images of 6 classes, 1 to 3 each",
        "not the whole set, which has 13,233 images of 5,749 classes: results on it do not compare with published ones",
        "no split of its own and none drawn: 5 classes have fewer than 3 images, so it serves tasks that keep whole "
        "classes apart",
        f"4 pairs (2 of one class) in 2 folds in {tmp_path / 'pairs.txt'}",
        "4 people are named in the pairs, 0 of them in more than one fold",
    ]
    packed = open_packed(catalog.pack(source, tmp_path / "packed").path)
    assert all(row.ok for row in catalog.check(packed))
    assert messages(packed)[2:] == [
        "6 of 6 classes have training images, 1 to 3 each",
        "4 pairs (2 of one class) in 2 folds, 0 of them unlike the labels",
        "offers verification, identification, retrieval",
    ]


def test_check_finds_people_in_several_folds(tmp_path, make_lfw):
    pairs = "2\t1\nCy\t1\t2\nCy\t1\tBo\t1\nFlo\t1\t2\nCy\t2\tEd\t1\n"
    rows = catalog.check(catalog.locate("lfw", data_root=make_lfw(tmp_path, pairs=pairs)))
    assert (False, "4 people are named in the pairs, 1 of them in more than one fold", False) in rows


def test_check_warns_of_pairs_that_are_listed_twice(tmp_path, make_lfw):
    pairs = "2\t1\nCy\t1\t2\nCy\t1\tBo\t1\nCy\t2\t1\nCy\t2\tEd\t1\n"
    source = catalog.locate("lfw", data_root=make_lfw(tmp_path, pairs=pairs), size=8)
    packed = open_packed(catalog.pack(source, tmp_path / "packed").path)
    for subject in (source, packed):
        (row,) = [row for row in catalog.check(subject) if "listed more than once" in row.message]
        assert (
            row.ok and row.warning and row.message.startswith("1 pairs are listed more than once, 1 of them in several")
        )


def test_check_warns_of_one_image_under_two_labels(tmp_path, make_images):
    make_images(tmp_path / "in")
    whole = tmp_path / "in" / "cat" / "image 0.png"
    shutil.copy(whole, tmp_path / "in" / "dög" / "image 9.png")
    Image.open(whole).save(tmp_path / "in" / "dög" / "image 8.bmp")  # Equal pixels, other bytes.
    source = catalog.locate(f"folder:{tmp_path / 'in'}", data_root=None, size=8)
    warned = [row for row in catalog.check(source) if row.warning]
    assert len(warned) == 1 and warned[0].ok and "in more than one class" in warned[0].message
    packed = catalog.check(open_packed(catalog.pack(source, tmp_path / "packed").path))
    assert any(
        row.warning and "more than one class, pixel for pixel, for example in cat and dög" in row.message
        for row in packed
    )


def test_a_folder_and_its_archives_are_one_packed_file(tmp_path, make_images, make_tar):
    folder = make_images(tmp_path / "birds", ("a b", "a", "é"), modes=("L", "RGB"))
    loose = catalog.pack(catalog.locate(f"folder:{folder}", data_root=None, size=8), tmp_path / "packed")
    shutil.make_archive(str(tmp_path / "birds"), "zip", folder)
    for archive in (make_tar(folder), make_tar(folder, ".tgz"), tmp_path / "birds.zip"):
        source = catalog.locate(f"folder:{archive}", data_root=None, size=8)
        assert (source.images, source.name) == (15, f"folder:{archive.name}")
        info = catalog.pack(source, tmp_path / "packed")
        assert (info.fingerprint, info.path) == (loose.fingerprint, loose.path)


def test_check_says_when_a_set_is_whole(tmp_path, make_orl, monkeypatch):
    whole = dataclasses.replace(catalog.DATASETS["orl"], images=33, classes=11)
    entry = registry.get("dataset", "orl")
    monkeypatch.setitem(registry._entries, ("dataset", "orl"), dataclasses.replace(entry, facts={"info": whole}))
    assert "as many images and classes as its authors released" in messages(
        catalog.locate("orl", data_root=make_orl(tmp_path))
    )


@pytest.mark.parametrize("suffix", ["", ".tgz"])
def test_check_finds_files_that_are_in_both_splits_or_two_classes(tmp_path, make_cub, make_tar, suffix):
    root = make_cub(tmp_path)
    birds = root / "CUB_200_2011" / "images"
    # The first of a class is for training, the second for test.
    shutil.copy(birds / "002.Bird_2" / "Bird_0.jpg", birds / "002.Bird_2" / "Bird_1.jpg")
    shutil.copy(birds / "002.Bird_2" / "Bird_0.jpg", birds / "011.Bird_11" / "Bird_0.jpg")
    place = make_tar(root / "CUB_200_2011", suffix) if suffix else root
    rows = catalog.check(catalog.locate("cub200", data_root=place))
    assert (True, "its own split: 6 for training, 6 for test, every class on both sides", False) in rows
    assert (False, "1 of 6 test files are also in training, byte for byte", False) in rows
    assert (
        True,
        "1 of the images are in more than one class, for example 002.Bird_2/Bird_0.jpg and 002.Bird_2/Bird_1.jpg",
        True,
    ) in rows


def test_check_lets_other_classes_be_tested(tmp_path, make_sop):
    source = catalog.locate("sop", data_root=make_sop(tmp_path))
    assert "its own split: 6 for training, 6 for test, 0 classes on both sides" in messages(source)
    rows = catalog.check(open_packed(catalog.pack(source, tmp_path / "packed").path))
    assert (True, "2 classes are for training and 2 others for test", False) in rows and all(row.ok for row in rows)


def test_download_goes_through_torchvision(tmp_path, monkeypatch, make_cifar):
    calls = []

    def fetch(root, train, download):
        calls.append((train, download))
        if train:
            make_cifar(Path(root), "cifar10")

    fake = ModuleType("torchvision")
    fake.datasets = ModuleType("torchvision.datasets")
    fake.datasets.CIFAR10 = fake.datasets.CIFAR100 = fetch
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    assert catalog.download("cifar10", tmp_path / "new").kind == "cifar10"
    assert calls == [(True, True), (False, True)]


def test_download_says_what_is_missing(tmp_path, monkeypatch):
    def fail(**_):
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MachineError, match="needs torchvision"):
        catalog.download("cifar10", tmp_path)
    fake = ModuleType("torchvision")
    fake.datasets = ModuleType("torchvision.datasets")
    fake.datasets.CIFAR10 = fake.datasets.CIFAR100 = fail
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    with pytest.raises(MachineError, match="could not be fetched"):
        catalog.download("cifar100", tmp_path)
    with pytest.raises(UsageError, match="needs no download"):
        catalog.download("digits", tmp_path)
    with pytest.raises(UsageError, match="No data set named"):
        catalog.download("folder:x", tmp_path)


def test_every_data_set_is_described():
    for name, info in catalog.DATASETS.items():
        assert info.name == name
        assert all((info.summary, info.layout, info.terms))
        assert {"verification", "identification", "retrieval"} <= set(info.protocols)
        assert info.fixed != bool(info.stems)
        assert info.train is None or info.train + info.test == info.images
        assert info.images is None or f"{info.images:,}" in info.summary or f"{info.train:,}" in info.summary


def packed_for_real(data, root, folder, size=None):
    if not root.is_dir():
        pytest.skip(f"no {root.name} in SWEEPS_TEST_DATA")
    source = catalog.locate(data, data_root=root, size=size)
    return source, open_packed(catalog.pack(source, folder).path)


def test_real_cifar100_packs(real_data, tmp_path):
    _, packed = packed_for_real("cifar100", real_data / "cifar100", tmp_path)
    assert len(packed.info.classes) == 100 and packed.info.classes[0] == "apple"
    assert np.ptp(np.bincount(packed.labels)) == 0


def test_real_lfw_packs_with_its_6000_pairs(real_data, tmp_path):
    source, packed = packed_for_real("lfw", real_data / "lfw_a_112", tmp_path, size=16)
    info, pairs = packed.info, packed.pairs
    assert (len(packed.labels), len(info.classes), info.channels, info.test_images) == (13_233, 5749, 1, 0)
    assert pairs.shape == (6000, 4)
    assert np.bincount(pairs[:, 0]).tolist() == [0] + [600] * 10
    assert (pairs[:, 3].reshape(10, 2, 300) == [[[1], [0]]]).all()
    np.testing.assert_array_equal(packed.labels[pairs[:, 1]] == packed.labels[pairs[:, 2]], pairs[:, 3].astype(bool))
    names = item_names(info.path)
    assert [names[item] for item in pairs[0, 1:3]] == [f"Abel_Pacheco/Abel_Pacheco_000{n}.jpg" for n in (1, 4)]
    counts = np.bincount(packed.labels)
    assert [int((counts >= least).sum()) for least in (2, 10, 20)] == [1680, 158, 62] and counts.max() == 530
    assert all(row.ok for row in catalog.check(source))


def test_real_orl_packs(real_data, tmp_path):
    source, packed = packed_for_real("orl", real_data / "orl", tmp_path)
    assert packed.images.shape == (400, 1, 92, 92) and np.bincount(packed.labels).tolist() == [10] * 40
    assert all(row.ok for row in catalog.check(source)) and all(row.ok for row in catalog.check(packed))


def test_real_cub_packs(real_data, tmp_path):
    _, packed = packed_for_real("cub200", real_data / "cub200_50", tmp_path, size=16)
    info = packed.info
    assert (len(info.classes), info.channels, info.train_images, info.test_images) == (50, 3, 1500, 1389)
    assert info.classes[0] == "001.Black_footed_Albatross"
    counts = np.bincount(packed.labels)
    assert (counts.min(), counts.max()) == (41, 60)

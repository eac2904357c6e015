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

from trainables.data import catalog
from trainables.data.packed import open_packed
from trainables.errors import DataError, DiskFullError, MachineError, UsageError

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


def test_a_removed_file_is_packed_again_and_a_cut_one_is_told(tmp_path):
    source = catalog.locate("digits", data_root=None)
    info = catalog.pack(source, tmp_path)
    info.path.unlink()
    assert catalog.find_packed(source, tmp_path) is None
    assert catalog.pack(source, tmp_path) == info
    os.truncate(info.path, 5000)
    with pytest.raises(DataError, match="was cut: 5000 of"):
        catalog.pack(source, tmp_path)


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
        packers = [
            subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) for _ in range(2)
        ]
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
    with pytest.raises(MachineError, match="File exists"):
        catalog.pack(catalog.locate("digits", data_root=None), tmp_path / "file")


@pytest.mark.parametrize("data, hint", [("cifar-100", "cifar100"), ("digts", "digits")])
def test_unknown_names_get_a_hint(data, hint):
    with pytest.raises(UsageError, match=f"Did you mean '{hint}'"):
        catalog.locate(data, data_root=None)


def test_a_bare_path_gets_a_hint(tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'folder:/"):
        catalog.locate(str(tmp_path), data_root=None)


@pytest.mark.parametrize(
    "data, size", [("digits", 16), ("cifar100", 64), ("folder:x", 0), ("folder:x", 5000)]
)
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
        "no train/ and test/: 20 % of each class are drawn for test",
        "1 other files are passed over",
    ]


def test_check_finds_test_images_that_were_trained(tmp_path, make_images):
    make_images(tmp_path / "train", ("a", "b"))
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    source = catalog.locate(f"folder:{tmp_path}", data_root=None, size=4)
    rows = catalog.check(open_packed(catalog.pack(source, tmp_path / "packed").path))
    assert rows[-1] == (False, "10 of 10 test images are also in training, pixel for pixel")


def test_check_finds_altered_pixels(make_packed):
    packed = make_packed()
    content = bytearray(packed.info.path.read_bytes())
    content[bytes(content).index(packed.images[0].tobytes())] ^= 1
    packed.info.path.write_bytes(content)
    assert [row.ok for row in catalog.check(open_packed(packed.info.path))][1] is False


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
        assert all((info.summary, info.layout, info.terms, info.protocol))


def test_real_cifar100_packs(real_data, tmp_path):
    root = real_data / "cifar100"
    if not (root / "cifar-100-python").is_dir():
        pytest.skip("no cifar100/cifar-100-python in SWEEPS_TEST_DATA")
    packed = open_packed(catalog.pack(catalog.locate("cifar100", data_root=root), tmp_path).path)
    assert len(packed.info.classes) == 100 and packed.info.classes[0] == "apple"
    assert np.ptp(np.bincount(packed.labels)) == 0

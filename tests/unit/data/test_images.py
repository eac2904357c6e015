import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data import blocks, catalog, images
from trainables.data.archives import tree_of
from trainables.data.folder import list_folder
from trainables.data.images import Listing, read_images
from trainables.data.packed import TEST, TRAIN
from trainables.data.people import list_people
from trainables.data.survey import stored_side, survey
from trainables.errors import DataError

PROJECT = Path(__file__).parents[3]


def read(listing, work, **more):
    given = {"where": "there", "channels": 1, "side": 6} | more
    return read_images(listing, work=work, **given)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(images, "_BLOCK_IMAGES", 4)


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that were decoded."""
    names, lock, decode = [], threading.Lock(), images._decode

    def counting(file, *others):
        with lock:
            names.append(file.relative)
        return decode(file, *others)

    monkeypatch.setattr(images, "_decode", counting)
    return names


class Stopped(BaseException):
    """Stands for Ctrl-C."""


def stop_after(number):
    def progress(done, total):
        if done == number:
            raise Stopped

    return progress


def test_an_interrupted_decoding_goes_on_where_it_stopped(tmp_path, make_images, small_blocks, decoded):
    listing = list_folder(make_images(tmp_path / "in", ("a", "b", "c"), count=6))
    whole = read(listing, tmp_path / "whole")
    decoded.clear()
    with pytest.raises(Stopped):
        read(listing, tmp_path / "work", progress=stop_after(11))
    decoded.clear()
    seen = []
    again = read(listing, tmp_path / "work", progress=lambda done, total: seen.append((done, total)))
    assert sorted(decoded) == sorted(file.relative for file in listing.files[8:])  # Two blocks of four were whole.
    assert seen[0] == (8, 18) and seen[-1] == (18, 18) and len(seen) == 11
    np.testing.assert_array_equal(again.images, whole.images)
    decoded.clear()
    np.testing.assert_array_equal(read(listing, tmp_path / "work").images, whole.images)
    assert decoded == []


@pytest.mark.parametrize(
    "harm", ["pixel", "cut pixels", "no pixels", "torn line", "line of noise", "no journal", "binary journal"]
)
def test_blocks_that_are_not_what_they_were_are_decoded_again(tmp_path, make_images, small_blocks, decoded, harm):
    listing = list_folder(make_images(tmp_path / "in", ("a", "b", "c"), count=6))
    whole = read(listing, tmp_path / "whole").images.copy()
    read(listing, tmp_path / "work")
    pixels, journal = tmp_path / "work" / "pixels", tmp_path / "work" / "done"
    if harm == "pixel":
        content = bytearray(pixels.read_bytes())
        content[40] ^= 1
        pixels.write_bytes(content)
    elif harm == "cut pixels":
        os.truncate(pixels, 36 * 10)
    elif harm == "no pixels":
        pixels.unlink()
    elif harm == "torn line":
        journal.write_bytes(journal.read_bytes()[:-20])
    elif harm == "line of noise":
        journal.write_bytes(journal.read_bytes() + b"\n99 x\n-1 y\n\n1 00\n")
    elif harm == "no journal":
        journal.unlink()
    else:
        journal.write_bytes(b"\xff\xfe")
    decoded.clear()
    np.testing.assert_array_equal(read(listing, tmp_path / "work").images, whole)
    again = {"pixel": 4, "cut pixels": 10, "torn line": 2, "line of noise": 4}
    assert len(decoded) == again.get(harm, 18)
    decoded.clear()
    read(listing, tmp_path / "work")
    assert decoded == []  # What was mended is believed the next time.


@pytest.mark.parametrize("change", [{"side": 5}, {"channels": 3}])
def test_blocks_of_another_form_are_not_used(tmp_path, make_images, small_blocks, decoded, change):
    listing = list_folder(make_images(tmp_path / "in"))
    read(listing, tmp_path / "work")
    decoded.clear()
    items = read(listing, tmp_path / "work", **change)
    assert len(decoded) == 10
    np.testing.assert_array_equal(items.images, read(listing, tmp_path / "other", **change).images)


def test_blocks_of_another_pillow_are_not_used(tmp_path, make_images, decoded, monkeypatch):
    listing = list_folder(make_images(tmp_path / "in"))
    read(listing, tmp_path / "work")
    decoded.clear()
    monkeypatch.setattr(images.PIL, "__version__", "0.0")
    read(listing, tmp_path / "work")
    assert len(decoded) == 10


KILLED = """
import os, signal, sys
from pathlib import Path
from trainables.data import catalog, images

images._BLOCK_IMAGES = 8
source = catalog.locate(sys.argv[1], data_root=None, size=8)

def progress(done, total):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

catalog.pack(source, Path(sys.argv[2]), progress)
"""


def test_a_killed_packing_is_finished_with_the_fingerprint_of_an_undisturbed_one(tmp_path, make_images, decoded):
    birds = make_images(tmp_path / "birds", ("a", "b", "c"), count=20, modes=("RGB", "L"))
    command = [sys.executable, "-c", KILLED, f"folder:{birds}", str(tmp_path / "killed")]
    assert subprocess.run([*command, "45"], cwd=PROJECT, timeout=60).returncode == -signal.SIGKILL
    (work,) = (tmp_path / "killed").glob(f".*{blocks.SUFFIX}")
    source = catalog.locate(f"folder:{birds}", data_root=None, size=8)
    images_before = images._BLOCK_IMAGES
    try:
        images._BLOCK_IMAGES = 8
        info = catalog.pack(source, tmp_path / "killed")
    finally:
        images._BLOCK_IMAGES = images_before
    assert 0 < len(decoded) <= 20
    assert not work.exists()
    assert info.fingerprint == catalog.pack(source, tmp_path / "whole").fingerprint
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == [".lock", info.path.name, "index.json"]


def test_work_on_a_source_that_changed_is_not_used(tmp_path, make_images, decoded):
    birds = make_images(tmp_path / "birds")
    with pytest.raises(Stopped):
        catalog.pack(catalog.locate(f"folder:{birds}", data_root=None, size=8), tmp_path / "p", stop_after(7))
    os.utime(birds / "cat" / "image 0.png", (1, 1))
    decoded.clear()
    catalog.pack(catalog.locate(f"folder:{birds}", data_root=None, size=8), tmp_path / "p")
    assert len(decoded) == 10


def test_forgotten_work_is_cleared_after_a_week(tmp_path, make_images):
    birds = make_images(tmp_path / "birds")
    for size in (7, 8):
        source = catalog.locate(f"folder:{birds}", data_root=None, size=size)
        with pytest.raises(Stopped):
            catalog.pack(source, tmp_path / "p", stop_after(7))
    old, young = (
        tmp_path / "p" / f".{catalog.locate(f'folder:{birds}', data_root=None, size=size).identity}{blocks.SUFFIX}"
        for size in (7, 8)
    )
    os.utime(old / "done", (1, 1))
    catalog.pack(catalog.locate("digits", data_root=None), tmp_path / "p")
    assert not old.exists() and young.exists()


def test_a_packing_that_fails_leaves_no_work(tmp_path, make_images):
    birds = make_images(tmp_path / "birds")
    (birds / "cat" / "image 3.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"1 of 10 images .* cat/image 3\.png"):
        catalog.pack(catalog.locate(f"folder:{birds}", data_root=None, size=8), tmp_path / "p")
    assert [path.name for path in (tmp_path / "p").iterdir()] == [".lock"]


def test_rows_stay_readable_when_the_work_is_discarded(tmp_path, make_images):
    items = read(list_folder(make_images(tmp_path / "in")), tmp_path / "work")
    before = items.images.copy()
    blocks.discard(tmp_path / "work")
    np.testing.assert_array_equal(items.images, before)


@pytest.mark.parametrize("suffix", [".tar", ".tgz"])
def test_archives_give_the_pixels_of_loose_files(tmp_path, make_images, make_tar, small_blocks, suffix):
    folder = make_images(tmp_path / "in", ("a", "b", "c"), count=6, modes=("L", "RGB"), size=(30, 20))
    loose, archived = list_people(tree_of([folder])), list_people(tree_of([make_tar(folder, suffix)]))
    assert [file.relative for file in loose.files] == [file.relative for file in archived.files]
    assert survey(loose).channels == survey(archived).channels == 3
    assert stored_side(loose) == stored_side(archived) == 20
    expected = read(loose, tmp_path / "1", channels=3).images
    np.testing.assert_array_equal(read(archived, tmp_path / "2", channels=3).images, expected)
    shuffled = Listing(classes=archived.classes, files=archived.files[::-1])
    np.testing.assert_array_equal(read(shuffled, tmp_path / "3", channels=3).images, expected[::-1])


def test_damage_inside_an_archive_is_named(tmp_path, make_images, make_tar):
    folder = make_images(tmp_path / "in", ("a", "b"))
    (folder / "b" / "image 2.png").write_bytes(b"noise")
    with pytest.raises(DataError, match=r"1 of 10 images in there cannot be decoded: b/image 2\.png \(Unidentified"):
        read(list_people(tree_of([make_tar(folder)])), tmp_path / "work")


def test_memory_is_bounded_by_blocks(tmp_path, make_images, monkeypatch):
    monkeypatch.setattr(images, "_BLOCK_BYTES", 100)
    at_once, most, lock, decode = [0], [0], threading.Lock(), images._decode

    def counting(*given):
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        return decode(*given)

    def taken(done, total):
        with lock:
            at_once[0] -= 1

    monkeypatch.setattr(images, "_decode", counting)
    read(list_folder(make_images(tmp_path / "in", count=30)), tmp_path / "work", progress=taken)
    assert at_once == [0] and most[0] <= 2 * (100 // 36) + 1


def test_the_stored_side_is_that_of_the_usual_image(tmp_path, make_images):
    make_images(tmp_path / "in", ("a", "b"), count=6, size=(40, 30))
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "in" / "a" / "tiny.png")
    (tmp_path / "in" / "b" / "broken.png").write_bytes(b"x")
    assert stored_side(list_folder(tmp_path / "in")) == 30


def test_test_images_are_drawn_only_where_every_class_has_three(tmp_path, make_images):
    make_images(tmp_path / "in", ("a", "b"), count=5)
    many = list_people(tree_of([tmp_path / "in"]))
    assert many.drawn and np.bincount(many.labels[many.split() == TEST]).tolist() == [1, 1]
    make_images(tmp_path / "in", ("c",), count=2)
    few = list_people(tree_of([tmp_path / "in"]))
    assert not few.drawn and (few.split() == TRAIN).all() and len(few.files) == 12

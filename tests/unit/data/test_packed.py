import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from trainables.data import block_digests, packing
from trainables.data import packed as packed_module
from trainables.data.packed import TEST, TRAIN, Items, item_names, open_packed, read_info
from trainables.data.packing import write_packed
from trainables.data.splits import draw_test_split, split_indices
from trainables.errors import DataError, UsageError

SPLITS = ("train", "validation", "test")


def indices(packed, split, *, fraction=0.2, seed=0, train_images=0):
    return split_indices(packed, split, validation_fraction=fraction, split_seed=seed, train_images=train_images)


def items(images, name="c"):
    labels = np.arange(len(images), dtype=np.int32) % 2
    split = np.array([TRAIN, TRAIN, TEST, TEST], dtype=np.uint8)[: len(images)]
    return Items(images=images, labels=labels, split=split, names=["é"] * len(images), classes=(name, "d"))


def test_what_is_written_is_read_back(nasty_path):
    images = np.arange(4 * 3 * 5 * 5, dtype=np.uint16).astype(np.uint8).reshape(4, 3, 5, 5)
    info = write_packed(nasty_path, "näme", items(images))
    opened = open_packed(info.path, verify=True)
    np.testing.assert_array_equal(opened.images, images)
    np.testing.assert_array_equal(opened.labels, [0, 1, 0, 1])
    np.testing.assert_array_equal(opened.split, [0, 0, 1, 1])
    assert (opened.labels.dtype, opened.split.dtype) == (np.int32, np.uint8)
    assert opened.info == info == read_info(info.path)
    assert (info.name, info.classes, info.channels, info.height, info.width) == ("näme", ("c", "d"), 3, 5, 5)
    assert (info.train_images, info.test_images, info.bytes) == (2, 2, info.path.stat().st_size)
    assert info.path.name == f"{info.fingerprint}.arrow"
    assert item_names(info.path) == ["é"] * 4


def test_the_images_are_read_only(make_packed):
    with pytest.raises(ValueError, match="read-only"):
        make_packed().images[0] = 0


def test_the_fingerprint_is_of_the_content_and_not_of_the_name(tmp_path):
    images = np.zeros((4, 1, 2, 2), dtype=np.uint8)
    first = write_packed(tmp_path / ".", "one", items(images))
    assert write_packed(tmp_path, "two", items(images)).fingerprint == first.fingerprint
    assert write_packed(tmp_path, "one", items(images + 1)).fingerprint != first.fingerprint
    assert write_packed(tmp_path, "one", items(images, "renamed")).fingerprint != first.fingerprint
    assert write_packed(tmp_path, "one", items(images.reshape(4, 1, 1, 4))).fingerprint != first.fingerprint


def test_the_fingerprint_of_a_known_array_never_changes():
    images = np.arange(16, dtype=np.uint8).reshape(4, 1, 2, 2)
    made = items(images)
    marks = packed_module.fingerprint(made.images, made.labels, made.split, made.classes)
    assert marks == "3c0a23dc6559fe13"


@pytest.mark.parametrize("keep", [0, 3, 8, 100, 300, 700, -400, -8, -1])
def test_a_cut_file_is_told_from_others(make_packed, keep):
    path = make_packed().info.path
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"was cut: .* The next run packs it again\.$"):
        open_packed(path)


def test_a_longer_file_is_told(make_packed):
    path = make_packed().info.path
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match="was altered"):
        open_packed(path)


def altered(path: Path, what: bytes, by: int = 1, at: int = 0) -> None:
    """Change one byte of the file where `what` lies; its size and its times of change tell nothing."""
    content = bytearray(path.read_bytes())
    content[bytes(content).index(what) + at] ^= by
    with open(path, "r+b") as file:
        file.write(content)


def test_altered_pixels_are_found_when_verifying(make_packed):
    packed = make_packed()
    altered(packed.info.path, packed.images[3].tobytes())
    open_packed(packed.info.path)
    with pytest.raises(DataError, match="no longer matches its fingerprint"):
        open_packed(packed.info.path, verify=True)


def test_altered_pixels_are_found_by_who_reads_them_and_by_nobody_else(make_packed, monkeypatch):
    monkeypatch.setattr(block_digests, "BLOCK_BYTES", 10 * 16)
    packed = make_packed()
    assert packed.digests is not None and packed.digests.rows == 10 and len(packed.digests.blocks) == 7
    altered(packed.info.path, packed.images[33].tobytes())
    again = open_packed(packed.info.path)
    np.testing.assert_array_equal(again.pixels(np.array([29, 40])), packed.images[[29, 40]])
    for indices in (np.array([30]), np.array([69, 39])):
        with pytest.raises(DataError, match="no longer matches its fingerprint"):
            again.pixels(indices)
    with pytest.raises(DataError):
        again.require_whole()
    assert packed_module.doubt_of(packed.info.path).exists()


def test_each_block_is_compared_once_for_one_state_of_the_file(make_packed, monkeypatch):
    counted = []
    count = packed_module.block_crc
    monkeypatch.setattr(packed_module, "block_crc", lambda *words: counted.append(words[2]) or count(*words))
    monkeypatch.setattr(block_digests, "BLOCK_BYTES", 10 * 16)
    path = make_packed().info.path
    for _ in range(3):
        open_packed(path).pixels(np.arange(0, 70, 2))
    assert sorted(counted) == list(range(7))
    os.utime(path, ns=(1, 1))
    open_packed(path).pixels(np.array([5]))
    assert sorted(counted) == [0, *range(7)]


def test_a_file_that_is_written_to_or_cut_while_it_is_mapped_is_compared_again(make_packed):
    packed = make_packed()
    images = packed.images.copy()
    np.testing.assert_array_equal(packed.pixels(np.arange(70)), images)
    altered(packed.info.path, packed.images[3].tobytes())
    with pytest.raises(DataError, match="no longer matches"):
        packed.pixels(np.array([60]))
    os.truncate(packed.info.path, 600)
    with pytest.raises(DataError, match="was cut: 600 of"):
        packed.pixels(np.array([60]))


def test_a_file_that_was_replaced_while_it_is_mapped_is_read_as_it_was(make_packed):
    packed = make_packed()
    images = packed.images.copy()
    aside = packed.info.path.with_name("aside")
    aside.write_bytes(b"another file")
    aside.replace(packed.info.path)
    np.testing.assert_array_equal(packed.pixels(np.arange(70)), images)


def test_a_file_packed_before_there_were_digests_is_compared_by_its_fingerprint(make_packed, monkeypatch):
    monkeypatch.setattr(packing, "METADATA_KEY", b"unknown yet")
    packed = make_packed()
    monkeypatch.undo()
    packed = open_packed(packed.info.path)
    assert packed.digests is None
    assert len(packed.pixels(np.array([0, 69]))) == 2
    packed.require_whole()
    altered(packed.info.path, packed.images[3].tobytes())
    with pytest.raises(DataError, match="no longer matches its fingerprint"):
        open_packed(packed.info.path).pixels(np.array([69]))


@pytest.mark.parametrize(
    ("what", "by", "at"),
    [
        pytest.param(np.arange(3, dtype="<i4").repeat([40, 20, 10]).tobytes(), 1, 8, id="a label"),
        pytest.param(b"class 1", 1, 0, id="a class name"),
        pytest.param(b'"columns"', 1, 1, id="the digests"),
    ],
)
def test_altered_labels_names_and_descriptions_are_found_when_opening(make_packed, what, by, at):
    path = make_packed().info.path
    altered(path, what, by, at)
    with pytest.raises(DataError, match="The next run packs it again"):
        open_packed(path)


def test_an_altered_item_name_is_found_by_who_reads_names(make_packed):
    path = make_packed().info.path
    altered(path, b"item 0item 1")
    open_packed(path)
    with pytest.raises(DataError, match="no longer matches"):
        packed_module.item_names(path)


def test_a_file_under_the_name_of_another_is_told(make_packed):
    path = make_packed().info.path
    other = path.with_name("0123456789abcdef.arrow")
    path.rename(other)
    with pytest.raises(DataError, match="it says that it is"):
        open_packed(other)


@pytest.mark.parametrize("bit", range(0, 2400, 97))
def test_whatever_bit_is_flipped_the_file_is_refused_or_gives_what_was_packed(make_packed, bit):
    packed = make_packed()
    images, labels = packed.images.copy(), packed.labels.copy()
    content = bytearray(packed.info.path.read_bytes())
    content[(bit * len(content)) // 2400] ^= 1 << (bit % 8)
    packed.info.path.write_bytes(content)
    try:
        again = open_packed(packed.info.path)
        pixels = again.pixels(np.arange(len(labels)))
    except DataError:
        return
    np.testing.assert_array_equal(pixels, images)
    np.testing.assert_array_equal(again.labels, labels)


@pytest.mark.parametrize("content", [b"not arrow at all", b"ARROW1\0\0 and then noise" * 9, b"\xff" * 50])
def test_a_foreign_file_is_refused(tmp_path, content):
    (tmp_path / "x.arrow").write_bytes(content)
    with pytest.raises(DataError):
        open_packed(tmp_path / "x.arrow")


def test_somebody_elses_arrow_file_is_refused(tmp_path):
    path = tmp_path / "x.arrow"
    batch = pa.record_batch([pa.array([1, 2])], names=["a"])
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(DataError, match="is not a packed data set of this project"):
        open_packed(path)


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "read_info", lambda path: path)
    monkeypatch.setattr(packing, "FORMAT_VERSION", 0)
    path = write_packed(tmp_path, "old", items(np.zeros((4, 1, 2, 2), dtype=np.uint8)))
    monkeypatch.undo()
    with pytest.raises(DataError, match="must have format 1, but has 0"):
        open_packed(path)


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="No packed data set"):
        open_packed(tmp_path / "none.arrow")
    with pytest.raises(DataError, match="cannot be read"):
        open_packed(tmp_path)


def test_a_damaged_file_of_the_same_fingerprint_is_replaced(tmp_path):
    made = items(np.zeros((4, 1, 2, 2), dtype=np.uint8))
    info = write_packed(tmp_path, "a", made)
    info.path.write_bytes(b"ARROW1")
    assert write_packed(tmp_path, "a", made) == info
    open_packed(info.path, verify=True)


@pytest.mark.parametrize("step", [1, 7])
def test_whatever_bit_is_flipped_packing_again_gives_a_whole_file(tmp_path, step):
    made = items(np.arange(4 * 3 * 2 * 2, dtype=np.uint8).reshape(4, 3, 2, 2))
    info = write_packed(tmp_path, "c", made)
    whole = info.path.read_bytes()
    for place in range(step, len(whole), 13):
        hurt = bytearray(whole)
        hurt[place] ^= 1 << (place % 8)
        info.path.write_bytes(hurt)
        os.utime(info.path, ns=(place, place))  # Another state, for what is remembered of this one.
        again = write_packed(tmp_path, "c", made)
        open_packed(again.path).require_whole()
        assert item_names(again.path) == list(made.names)


def test_the_description_is_json_in_the_schema(make_packed):
    info = make_packed().info
    described = json.loads(pa.ipc.open_file(str(info.path)).schema.metadata[b"packed_images"])
    assert described["shape"] == [70, 1, 4, 4]
    assert described["counts"] == {"train": 56, "test": 14}


PAIRS = np.array([[1, 0, 2, 1], [1, 0, 1, 0], [2, 1, 3, 1]], dtype=np.int32)


def with_pairs(pairs):
    made = items(np.arange(16, dtype=np.uint8).reshape(4, 1, 2, 2))
    return dataclasses.replace(made, pairs=pairs)


def test_pairs_are_kept_and_mapped(nasty_path):
    info = write_packed(nasty_path, "pairs", with_pairs(PAIRS))
    opened = open_packed(info.path, verify=True)
    np.testing.assert_array_equal(opened.pairs, PAIRS)
    assert opened.pairs.dtype == np.int32 and not opened.pairs.flags.writeable
    assert (info.pairs, opened.info.pairs) == (3, 3)
    assert item_names(info.path) == ["é"] * 4


def test_a_set_without_pairs_says_so_and_keeps_its_fingerprint(tmp_path):
    info = write_packed(tmp_path, "none", with_pairs(None))
    assert open_packed(info.path).pairs is None and info.pairs == 0
    assert info.fingerprint == "3c0a23dc6559fe13"
    assert "pairs" not in pa.ipc.open_file(str(info.path)).schema.names


def test_the_fingerprint_is_of_the_pairs_too(tmp_path):
    other = PAIRS.copy()
    other[2, 0] = 3
    marks = {write_packed(tmp_path, "p", with_pairs(pairs)).fingerprint for pairs in (None, PAIRS, other)}
    assert len(marks) == 3


@pytest.mark.parametrize("row", [[0, 0, 2, 1], [1, -1, 2, 1], [1, 0, 4, 1], [1, 2, 2, 1], [1, 0, 2, 2], [1, 0, 2, -1]])
def test_pairs_that_cannot_be_are_refused(tmp_path, row):
    with pytest.raises(DataError, match="`pairs` of bad must be rows of int32"):
        write_packed(tmp_path, "bad", with_pairs(np.array([row], dtype=np.int32)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pairs", [PAIRS.astype(np.int64), PAIRS[:, :3], PAIRS[0], PAIRS[:0]])
def test_pairs_of_another_form_are_refused(tmp_path, pairs):
    with pytest.raises(DataError, match="`pairs` of bad must be rows of int32"):
        write_packed(tmp_path, "bad", with_pairs(pairs))


def test_altered_pairs_are_found(tmp_path):
    path = write_packed(tmp_path, "pairs", with_pairs(PAIRS)).path
    content = path.read_bytes()
    place = content.index(PAIRS.tobytes())
    (tmp_path / "fold.arrow").write_bytes(content[:place] + b"\x07" + content[place + 1 :])
    with pytest.raises(DataError, match="no longer matches its fingerprint"):
        open_packed(tmp_path / "fold.arrow")
    (tmp_path / "item.arrow").write_bytes(content[: place + 4] + b"\x09" + content[place + 5 :])
    with pytest.raises(DataError, match="was altered"):
        open_packed(tmp_path / "item.arrow")


def test_a_class_with_one_image_trains_and_is_in_no_other_split(make_packed):
    packed = make_packed((6, 1, 1, 3))
    single = np.isin(packed.labels, (1, 2))
    assert (packed.split[single] == TRAIN).all()
    for fraction in (0.0, 0.3, 0.9):
        parts = {split: indices(packed, split, fraction=fraction) for split in SPLITS}
        assert sorted(np.concatenate(list(parts.values()))) == list(range(11))
        assert set(np.flatnonzero(single)) <= set(parts["train"])
    assert len(indices(packed, "train", train_images=4)) == 4


def test_a_set_without_test_images_has_an_empty_test_split(tmp_path):
    made = items(np.zeros((4, 1, 2, 2), dtype=np.uint8))
    made = dataclasses.replace(made, split=np.zeros(4, dtype=np.uint8))
    packed = open_packed(write_packed(tmp_path, "untested", made).path, verify=True)
    assert packed.info.test_images == 0
    assert len(indices(packed, "test")) == 0 and len(indices(packed, "train", fraction=0.0)) == 4


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("per_class", [(40, 20, 10), (3, 3), (100, 3, 4)])
def test_splits_are_disjoint_and_whole(make_packed, per_class, fraction):
    packed = make_packed(per_class)
    parts = [indices(packed, split, fraction=fraction) for split in SPLITS]
    together = np.concatenate(parts)
    assert sorted(together) == list(range(sum(per_class)))
    assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)
    assert set(packed.labels[parts[0]]) == set(range(len(per_class)))
    assert (len(parts[1]) == 0) == (fraction == 0.0)


def test_splits_are_stratified(make_packed):
    packed = make_packed((50, 100, 200))
    assert np.bincount(packed.labels[indices(packed, "validation", fraction=0.25)]).tolist() == [10, 20, 40]
    assert np.bincount(packed.labels[indices(packed, "train", train_images=70)]).tolist() == [10, 20, 40]


def test_validation_is_the_same_for_every_number_of_training_images(make_packed):
    packed = make_packed()
    whole = indices(packed, "validation")
    np.testing.assert_array_equal(indices(packed, "validation", train_images=9), whole)
    small, large = indices(packed, "train", train_images=9), indices(packed, "train", train_images=23)
    assert len(small) == 9 and len(large) == 23
    assert set(small) < set(large) < set(indices(packed, "train"))


def test_splits_depend_on_the_seed_and_nothing_else(make_packed):
    packed = make_packed()
    np.random.seed(1)
    first = indices(packed, "validation", seed=3)
    np.random.seed(2)
    np.testing.assert_array_equal(indices(packed, "validation", seed=3), first)
    assert indices(packed, "validation", seed=4).tolist() != first.tolist()
    assert first.tolist() == [1, 6, 10, 17, 26, 38, 45, 47, 59, 62, 67]


@pytest.mark.parametrize("train_images", [-1, 1, 2, 57, 10**9])
def test_impossible_training_sizes_are_refused_with_the_numbers(make_packed, train_images):
    with pytest.raises(UsageError, match=rf"to 45, but got {train_images}: made has 56 training images"):
        indices(make_packed(), "train", train_images=train_images)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_impossible_fractions_are_refused(make_packed, fraction):
    with pytest.raises(UsageError, match="validation_fraction"):
        indices(make_packed(), "train", fraction=fraction)


def test_an_unknown_split_is_refused(make_packed):
    with pytest.raises(UsageError, match="train, validation or test"):
        indices(make_packed(), "dev")


def test_drawn_test_splits_leave_every_class_on_both_sides():
    labels = np.repeat(np.arange(4), [2, 3, 10, 100])
    split = draw_test_split(labels, fraction=0.2, seed=0)
    assert np.bincount(labels[split == TEST]).tolist() == [1, 1, 2, 20]


def test_a_copy_elsewhere_opens_as_well(make_packed, nasty_path):
    packed = make_packed()
    shutil.copy(packed.info.path, nasty_path / "copy.arrow")
    assert open_packed(nasty_path / "copy.arrow", verify=True).info.fingerprint == packed.info.fingerprint

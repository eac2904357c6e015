import shutil

import numpy as np
import pytest

from trainables.data.archives import tree_of
from trainables.data.packed import TEST, TRAIN
from trainables.data.people import list_lfw, list_orl, list_people, read_pairs
from trainables.errors import DataError

PEOPLE = ("Al_Gore", "Bo", "Cy", "Di_Äß", "Ed", "Flo")


def lfw(root):
    return list_lfw(tree_of([root / "lfw"]), root / "pairs.txt")


@pytest.mark.parametrize("suffix", ["", ".tar", ".tgz"])
def test_lfw_is_read_with_its_pairs(nasty_path, make_lfw, make_tar, suffix):
    root = make_lfw(nasty_path)
    place = make_tar(root / "lfw", suffix) if suffix else root / "lfw"
    listing = list_lfw(tree_of([place]), root / "pairs.txt")
    assert listing.classes == PEOPLE
    assert np.bincount(listing.labels).tolist() == [2, 1, 3, 2, 1, 2]
    names = [file.relative for file in listing.files]
    assert names[:4] == ["Al_Gore/Al_Gore_0001.jpg", "Al_Gore/Al_Gore_0002.jpg", "Bo/Bo_0001.jpg", "Cy/Cy_0001.jpg"]
    assert (listing.split() == TRAIN).all()  # Bo and Ed have one image, so nothing is drawn for test.
    named = [(fold, names[first], names[second], same) for fold, first, second, same in listing.pairs.tolist()]
    assert named == [
        (1, "Al_Gore/Al_Gore_0001.jpg", "Al_Gore/Al_Gore_0002.jpg", 1),
        (1, "Al_Gore/Al_Gore_0001.jpg", "Bo/Bo_0001.jpg", 0),
        (2, "Cy/Cy_0001.jpg", "Cy/Cy_0003.jpg", 1),
        (2, "Cy/Cy_0002.jpg", "Di_Äß/Di_Äß_0002.jpg", 0),
    ]


def test_files_that_are_no_faces_of_lfw_are_passed_over(tmp_path, make_lfw):
    root = make_lfw(tmp_path)
    for name in ("readme.txt", "Bo/Bo_0009.txt", "Bo/Ed_0002.jpg", "Bo/Bo.jpg"):
        (root / "lfw" / name).touch()
    listing = lfw(root)
    assert len(listing.files) == 11 and len(listing.passed) == 4


def test_lfw_twice_is_refused(tmp_path, make_lfw):
    root = make_lfw(tmp_path)
    shutil.copytree(root / "lfw" / "Cy", root / "lfw" / "copy" / "Cy")
    with pytest.raises(DataError, match=r"holds a person's photograph twice"):
        lfw(root)


def test_pairs_of_missing_images_are_counted_and_named(tmp_path, make_lfw):
    root = make_lfw(tmp_path)
    (root / "lfw" / "Bo" / "Bo_0001.jpg").unlink()
    (root / "lfw" / "Cy" / "Cy_0003.jpg").unlink()
    with pytest.raises(
        DataError, match=r"pairs\.txt names 2 images that are not in .*lfw: Bo_0001, Cy_0003\. Complete"
    ):
        lfw(root)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("", "must begin with the numbers of folds and of pairs, but begins ''"),
        ("10\t300\t5\n", "must begin"),
        ("0\t300\n", "must begin"),
        ("ten\t300\n", "must begin"),
        ("2\t1\nBo\t1\t2\n", r"must hold 2 folds of 1 \+ 1 pairs, 4 in all, but holds 1"),
        ("1\nCy\t1\t2\nCy\t1\t3\n", "Line 3 of .* must read `name number name number`"),
        ("1\nCy\t1\tBo\t1\nCy\t1\t3\n", "Line 2 of .* must read `name number number`"),
        ("1\nCy\t1\t1\nCy\t1\tBo\t1\n", "Line 2 of .* must pair two images of one"),
        ("1\nCy\t1\t2\nCy\t1\tCy\t2\n", "Line 3 of .* must pair two images of two"),
        ("1\nCy\t1\tx\nCy\t1\tBo\t1\n", "Line 2 of .* must number an image, but says 'x'"),
    ],
)
def test_a_list_of_pairs_of_another_form_is_refused(tmp_path, make_lfw, listed, message):
    with pytest.raises(DataError, match=message):
        lfw(make_lfw(tmp_path, pairs=listed))


def test_the_lists_for_development_have_one_fold(tmp_path):
    (tmp_path / "pairsDevTest.txt").write_text("2\r\nA\t1\t2\r\nA\t2\t3\r\nA\t1\tB\t1\r\nA\t2\tB\t1\r\n\r\n")
    items = {"A_0001": 5, "A_0002": 6, "A_0003": 7, "B_0001": 8}
    pairs = read_pairs(tmp_path / "pairsDevTest.txt", items, "there")
    assert pairs.tolist() == [[1, 5, 6, 1], [1, 6, 7, 1], [1, 5, 8, 0], [1, 6, 8, 0]] and pairs.dtype == np.int32


def test_a_list_that_is_missing_is_told(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt cannot be read: No such file"):
        read_pairs(tmp_path / "none.txt", {}, "there")


@pytest.mark.parametrize("suffix", ["", ".tar"])
def test_orl_is_read_in_the_order_of_its_numbers(nasty_path, make_orl, make_tar, suffix):
    folder = make_orl(nasty_path) / "att_faces"
    (folder / "README").touch()
    listing = list_orl(tree_of([make_tar(folder, suffix) if suffix else folder]))
    assert listing.classes == tuple(f"s{person}" for person in range(1, 12))
    assert [file.relative for file in listing.files[26:31]] == [
        "s9/3.pgm",
        "s10/1.pgm",
        "s10/2.pgm",
        "s10/3.pgm",
        "s11/1.pgm",
    ]
    assert len(listing.passed) == 1 and listing.pairs is None
    assert np.bincount(listing.labels[listing.split() == TEST]).tolist() == [1] * 11


def test_images_of_an_orl_person_come_by_number(tmp_path, make_orl):
    folder = make_orl(tmp_path) / "att_faces"
    shutil.copy(folder / "s1" / "1.pgm", folder / "s1" / "10.pgm")
    listing = list_orl(tree_of([folder]))
    assert [file.relative for file in listing.files[:4]] == ["s1/1.pgm", "s1/2.pgm", "s1/3.pgm", "s1/10.pgm"]


@pytest.mark.parametrize("reader", [list_orl, list_people, lambda tree: list_lfw(tree, None)])
def test_too_few_people_are_told(tmp_path, reader):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.txt").touch()
    with pytest.raises(DataError, match="Images of at least 2 people must be in .*, but 0 found"):
        reader(tree_of([tmp_path]))


@pytest.mark.parametrize("above", ["", "deep/", "deep/er/"])
def test_people_are_the_folders_of_images_however_deep(tmp_path, make_images, above):
    make_images(tmp_path / above, ("ann", "bob"), count=2)
    listing = list_people(tree_of([tmp_path]))
    assert listing.classes == ("ann", "bob")
    assert [file.relative for file in listing.files] == [
        f"{person}/image {number}.png" for person in ("ann", "bob") for number in (0, 1)
    ]
    assert [file.split for file in listing.files] == [None] * 4


def test_batches_of_people_are_one_set(tmp_path, make_images):
    make_images(tmp_path / "umdfaces_batch1", ("ann", "bob"), count=2)
    make_images(tmp_path / "umdfaces_batch2", ("bob", "cid"), count=2)
    (tmp_path / "list.csv").touch()
    listing = list_people(tree_of([tmp_path]))
    assert listing.classes == ("ann", "bob", "cid") and len(listing.passed) == 1
    assert np.bincount(listing.labels).tolist() == [2, 4, 2]


@pytest.mark.parametrize("above", ["", "uccs/"])
def test_train_and_test_are_the_split_of_people(tmp_path, make_images, above):
    make_images(tmp_path / above / "train", ("ann", "bob"), count=2)
    make_images(tmp_path / above / "test", ("bob", "cid"), count=1)
    listing = list_people(tree_of([tmp_path]))
    assert listing.classes == ("ann", "bob", "cid")
    assert {(listing.classes[file.label], file.split) for file in listing.files} == {
        ("ann", TRAIN),
        ("bob", TRAIN),
        ("bob", TEST),
        ("cid", TEST),
    }


def test_train_and_test_without_folders_of_people_are_no_people(tmp_path, make_images):
    make_images(tmp_path, ("train", "test"))
    with pytest.raises(DataError, match=r"holds images straight in test, train, without class folders"):
        list_people(tree_of([tmp_path]))

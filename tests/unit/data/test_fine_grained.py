import sys

import numpy as np
import pytest

from trainables.data import sources
from trainables.data.archives import tree_of
from trainables.data.fine_grained import list_cars, list_cub, list_sop
from trainables.data.packed import TEST, TRAIN
from trainables.errors import DataError, MachineError


def rewrite(path, change):
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize("suffix", ["", ".tar", ".tgz"])
def test_cub_is_read_by_its_lists(nasty_path, make_cub, make_tar, suffix):
    folder = make_cub(nasty_path) / "CUB_200_2011"
    listing = list_cub(tree_of([make_tar(folder, suffix) if suffix else folder]))
    assert listing.classes == ("002.Bird_2", "007.Bird_7", "011.Bird_11")
    assert listing.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert listing.split().tolist() == [TRAIN, TEST] * 6
    assert listing.files[5].relative == "007.Bird_7/Bird_1.jpg"
    assert listing.channels == 3 and listing.pairs is None
    assert set(listing.passed.values()) == {"no image"} and len(listing.passed) == 4


def test_images_that_no_list_names_are_passed_over(tmp_path, make_cub):
    folder = make_cub(tmp_path) / "CUB_200_2011"
    for name in ("images", "image_class_labels", "train_test_split"):
        rewrite(folder / f"{name}.txt", lambda text: "\n".join(text.splitlines()[4:]))
    listing = list_cub(tree_of([folder]))
    assert listing.classes == ("007.Bird_7", "011.Bird_11") and [
        name.rpartition("/")[2] for name in listing.passed if name.endswith("jpg")
    ] == [f"Bird_{number}.jpg" for number in range(4)]


def test_images_that_a_list_names_must_be_there(tmp_path, make_cub):
    folder = make_cub(tmp_path) / "CUB_200_2011"
    for index in range(4):
        (folder / "images" / "007.Bird_7" / f"Bird_{index}.jpg").unlink()
    with pytest.raises(DataError, match=r"4 of the 12 images .* are not there: 007\.Bird_7/Bird_0\.jpg, .* Complete"):
        list_cub(tree_of([folder]))


@pytest.mark.parametrize("name", ["images", "image_class_labels", "train_test_split", "classes"])
def test_every_list_of_cub_is_needed(tmp_path, make_cub, name):
    folder = make_cub(tmp_path) / "CUB_200_2011"
    (folder / f"{name}.txt").unlink()
    with pytest.raises(DataError, match=rf"{name}\.txt must be in .*, but is not"):
        list_cub(tree_of([folder]))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train_test_split", lambda text: text + "13 1\n", "list the same images as images.txt, but 1 are .* only: 13"),
        ("image_class_labels", lambda text: text.replace("3 2\n", "", 1), "must list the same images"),
        ("image_class_labels", lambda text: text.replace("3 2\n", "3 two\n", 1), "hold whole numbers, but holds 'two'"),
        ("images", lambda text: text + "12\n", "Line 13 of images.txt in .* must read `number text`"),
        ("images", lambda text: text + "12 again.jpg\n", "Line 13 .* a new number, but reads '12 again.jpg'"),
        ("images", lambda text: "", "must list the same images"),
    ],
)
def test_lists_of_cub_that_do_not_fit_are_told(tmp_path, make_cub, name, change, message):
    folder = make_cub(tmp_path) / "CUB_200_2011"
    rewrite(folder / f"{name}.txt", change)
    with pytest.raises(DataError, match=message):
        list_cub(tree_of([folder]))


def test_empty_lists_and_single_classes_are_told(tmp_path, make_cub):
    folder = make_cub(tmp_path) / "CUB_200_2011"
    lists = [folder / f"{name}.txt" for name in ("images", "image_class_labels", "train_test_split")]
    for path in lists:
        rewrite(path, lambda text: "\n".join(text.splitlines()[:4]))
    with pytest.raises(DataError, match="at least 2 classes .* name 1"):
        list_cub(tree_of([folder]))
    for path in lists:
        path.write_text("\n")
    with pytest.raises(DataError, match="must name images, but name none"):
        list_cub(tree_of([folder]))


@pytest.mark.parametrize("suffix", ["", ".tar"])
def test_sop_keeps_its_products_apart(nasty_path, make_sop, make_tar, suffix):
    folder = make_sop(nasty_path) / "Stanford_Online_Products"
    listing = list_sop(tree_of([make_tar(folder, suffix) if suffix else folder]))
    assert listing.classes == ("1", "2", "3", "4")
    assert listing.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert listing.split().tolist() == [TRAIN] * 6 + [TEST] * 6
    assert listing.files[0].relative == "mug_final/111_0.JPG" and listing.channels == 3


def test_lists_of_sop_that_do_not_fit_are_told(tmp_path, make_sop):
    folder = make_sop(tmp_path) / "Stanford_Online_Products"
    rewrite(folder / "Ebay_test.txt", lambda text: text + "13 four 5 mug_final/114_9.JPG\n")
    with pytest.raises(DataError, match=r"Line 8 of Ebay_test\.txt in .* must read `image class superclass path`"):
        list_sop(tree_of([folder]))
    rewrite(folder / "Ebay_test.txt", lambda text: text.replace("four", "4"))
    with pytest.raises(DataError, match=r"1 of the 13 images .* not there: mug_final/114_9\.JPG"):
        list_sop(tree_of([folder]))
    (folder / "Ebay_test.txt").unlink()
    with pytest.raises(DataError, match=r"Ebay_test\.txt must be in"):
        list_sop(tree_of([folder]))


@pytest.mark.parametrize("release", ["parts", "whole"])
def test_cars_are_read_from_either_release(nasty_path, make_cars, release):
    listing = list_cars(tree_of([make_cars(nasty_path, release) / "cars196"]))
    assert listing.classes == ("Audi A 1", "BMW 2", "Ram C/V 3")
    assert listing.labels.tolist() == [2, 2, 0, 0, 1, 1, 2, 0, 1]
    assert listing.split().tolist() == [TRAIN] * 6 + [TEST] * 3
    folder = "car_ims" if release == "whole" else "cars_train"
    assert listing.files[0].relative == f"{folder}/000001.jpg" and listing.channels == 3


def test_the_parts_of_cars_may_be_archives(nasty_path, make_cars, make_tar):
    root = make_cars(nasty_path) / "cars196"
    loose = list_cars(tree_of([root]))
    for part, suffix in (("cars_train", ".tgz"), ("cars_test", ".tar"), ("devkit", ".tgz")):
        make_tar(root / part, suffix)
        for file in (root / part).iterdir():
            file.unlink()
        (root / part).rmdir()
    source = sources.locate("cars196", data_root=nasty_path)
    listing = sources.listing_of(source)
    assert [file.relative for file in listing.files] == [file.relative for file in loose.files]
    assert listing.classes == loose.classes
    np.testing.assert_array_equal(listing.labels, loose.labels)


def test_lists_of_cars_without_labels_or_damaged_are_told(tmp_path, make_cars):
    from scipy.io import savemat

    devkit = make_cars(tmp_path) / "cars196" / "devkit"
    unlabelled = np.array([("000001.jpg",), ("000002.jpg",)], dtype=[("fname", object)])
    savemat(devkit / "cars_test_annos_withlabels.mat", {"annotations": unlabelled})
    with pytest.raises(DataError, match="must hold `annotations` with class, fname, but does not. Take the list with"):
        list_cars(tree_of([tmp_path]))
    savemat(devkit / "cars_test_annos_withlabels.mat", {"other": 1})
    with pytest.raises(DataError, match="must hold `annotations`"):
        list_cars(tree_of([tmp_path]))
    for content in (b"", b"noise" * 100, (devkit / "cars_train_annos.mat").read_bytes()[:400]):
        (devkit / "cars_test_annos_withlabels.mat").write_bytes(content)
        with pytest.raises(DataError, match=r"cars_test_annos_withlabels\.mat in .* (is damaged|must hold)"):
            list_cars(tree_of([tmp_path]))
    (devkit / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(DataError, match=r"cars_test_annos_withlabels\.mat must be in"):
        list_cars(tree_of([tmp_path]))


def test_cars_without_scipy_say_what_to_install(tmp_path, make_cars, monkeypatch):
    root = make_cars(tmp_path)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(MachineError, match="Install it with `pip install scipy`"):
        list_cars(tree_of([root]))


def test_cars_without_names_of_models_go_by_their_numbers(tmp_path, make_cars):
    root = make_cars(tmp_path)
    (root / "cars196" / "devkit" / "cars_meta.mat").unlink()
    assert list_cars(tree_of([root])).classes == ("1", "2", "3")


def test_classes_of_one_name_are_told_apart_by_their_numbers(tmp_path, make_cub):
    folder = make_cub(tmp_path) / "CUB_200_2011"
    rewrite(folder / "classes.txt", lambda text: text.replace("007.Bird_7", "002.Bird_2"))
    assert list_cub(tree_of([folder])).classes == ("2 002.Bird_2", "7 002.Bird_2", "11 011.Bird_11")

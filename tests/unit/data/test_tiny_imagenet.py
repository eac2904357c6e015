"""Tiny ImageNet by its name: training in folders, validation by a list, test without labels."""

import shutil
import zipfile

import pytest

from tests.unit.data.conftest import write_image
from trainables.data import catalog
from trainables.data.archives import tree_of
from trainables.data.packed import TEST, TRAIN, open_packed
from trainables.data.tiny_imagenet import UNLABELLED, list_tiny_imagenet
from trainables.errors import DataError

CLASSES = ("n01443537", "n02123045", "n09193705")


@pytest.fixture
def tiny(tmp_path):
    """`tiny-imagenet-200/` of three classes with four training images and two validation images each."""
    folder, lines, number = tmp_path / "tiny-imagenet-200", [], 0
    for kind in CLASSES:
        for index in range(4):
            write_image(folder / "train" / kind / "images" / f"{kind}_{index}.JPEG", number := number + 1, mode="RGB")
        (folder / "train" / kind / f"{kind}_boxes.txt").write_text("x\n")
    for index, kind in enumerate(CLASSES[::-1] * 2):
        write_image(folder / "val" / "images" / f"val_{index}.JPEG", 100 + index, mode="L")
        lines.append(f"val_{index}.JPEG\t{kind}\t0\t0\t62\t62")
        write_image(folder / "test" / "images" / f"test_{index}.JPEG", 200 + index, mode="RGB")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (folder / "wnids.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "words.txt").write_text("n01443537\tgoldfish\n")
    return folder


def zipped(folder):
    path = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    shutil.rmtree(folder)
    return path


def by_class(listing, split):
    return [
        (listing.classes[file.label], file.relative.rpartition("/")[2]) for file in listing.files if file.split == split
    ]


@pytest.mark.parametrize("kind", ["folder", ".tar", ".tgz", ".zip"])
def test_training_and_validation_have_the_labels_of_folders_and_list(tiny, make_tar, kind):
    place = tiny if kind == "folder" else zipped(tiny) if kind == ".zip" else make_tar(tiny, kind)
    listing = list_tiny_imagenet(tree_of([place]))
    assert listing.classes == CLASSES and listing.channels == 3
    trained, tested = by_class(listing, TRAIN), by_class(listing, TEST)
    assert len(trained) == 12 and all(name.startswith(kind) for kind, name in trained)
    assert tested == [(CLASSES[2 - index % 3], f"val_{index}.JPEG") for index in range(6)]
    assert sum(why == UNLABELLED for why in listing.passed.values()) == 6


@pytest.mark.parametrize("kind", ["folder", ".zip"])
def test_it_is_found_by_name_and_packed(tiny, tmp_path, kind):
    place = tiny if kind == "folder" else zipped(tiny)
    for root in (tmp_path, place):
        source = catalog.locate("tiny_imagenet", data_root=root)
        assert source.path == place
    packed = open_packed(catalog.pack(source, tmp_path / "packed").path)
    assert (packed.info.channels, packed.info.height, packed.info.train_images, packed.info.test_images) == (
        3,
        12,
        12,
        6,
    )
    notes = catalog.notes_of(source, tmp_path / "packed")
    assert any("test/ have no published labels" in note for note in notes)
    assert all(row.ok for row in catalog.check(source))


def test_validation_images_may_be_in_folders_of_their_classes(tiny):
    for index, kind in enumerate(CLASSES[::-1] * 2):
        (tiny / "val" / kind / "images").mkdir(parents=True, exist_ok=True)
        (tiny / "val" / "images" / f"val_{index}.JPEG").rename(tiny / "val" / kind / "images" / f"val_{index}.JPEG")
    shutil.rmtree(tiny / "val" / "images")
    with_list = by_class(list_tiny_imagenet(tree_of([tiny])), TEST)
    (tiny / "val" / "val_annotations.txt").unlink()
    assert sorted(by_class(list_tiny_imagenet(tree_of([tiny])), TEST)) == sorted(with_list)
    assert {name: kind for kind, name in with_list}["val_0.JPEG"] == CLASSES[2]


def test_what_does_not_fit_is_refused(tiny):
    annotations = tiny / "val" / "val_annotations.txt"
    whole = annotations.read_text()
    annotations.write_text(whole + "val_9.JPEG\tn01443537\t0\t0\t1\t1\n")
    with pytest.raises(DataError, match=r"names 1 images that are not there: val_9\.JPEG"):
        list_tiny_imagenet(tree_of([tiny]))
    annotations.write_text(whole.partition("\n")[2])
    with pytest.raises(DataError, match=r"class of 1 images .*val/images/val_0\.JPEG"):
        list_tiny_imagenet(tree_of([tiny]))
    annotations.write_text(whole.replace("n09193705", "n00000000"))
    with pytest.raises(DataError, match=r"classes that train/ lacks \(n00000000\)"):
        list_tiny_imagenet(tree_of([tiny]))
    annotations.write_text(whole + "val_0.JPEG\tn01443537\n")
    with pytest.raises(DataError, match=r"Line 7 of val/val_annotations\.txt"):
        list_tiny_imagenet(tree_of([tiny]))
    annotations.write_text("")
    with pytest.raises(DataError, match="Nothing tells the class of 6 images"):
        list_tiny_imagenet(tree_of([tiny]))
    shutil.rmtree(tiny / "val")
    with pytest.raises(DataError, match=r"train/ and val/ must be in"):
        list_tiny_imagenet(tree_of([tiny]))


def test_a_folder_that_looks_like_it_is_told_its_name(tiny):
    with pytest.raises(DataError, match="Ask for it by name: --data tiny_imagenet"):
        catalog.locate(f"folder:{tiny}", data_root=None)

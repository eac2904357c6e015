import os

import numpy as np
import pytest
from PIL import Image

from trainables.data.folder import list_folder
from trainables.data.images import read_images
from trainables.data.packed import TEST, TRAIN
from trainables.data.survey import survey
from trainables.errors import DataError


def read_folder(path, size, scratch, progress=None):
    listing = list_folder(path)
    work = scratch / ".work"
    channels = survey(listing).channels
    return read_images(listing, where=str(path), channels=channels, side=size, work=work, progress=progress)


def test_a_folder_of_class_folders_is_read(nasty_path, make_images):
    make_images(nasty_path / "birds", ("b ☃", "a"), count=10)
    seen = []
    items = read_folder(nasty_path / "birds", 8, nasty_path, lambda done, total: seen.append((done, total)))
    assert items.images.shape == (20, 1, 8, 8)
    assert items.classes == ("a", "b ☃")
    assert items.names[0] == "a/image 0.png"
    assert np.bincount(items.labels[items.split == TEST]).tolist() == [2, 2]
    assert seen[-1] == (20, 20) and len(seen) == 20
    assert sorted(path.name for path in nasty_path.iterdir()) == [".work", "birds"]


def test_its_own_train_and_test_are_the_splits(tmp_path, make_images):
    make_images(tmp_path / "train", ("a", "b", "c"), count=3)
    make_images(tmp_path / "test", ("a", "c"), count=2)
    items = read_folder(tmp_path, 4, tmp_path)
    assert items.split.tolist() == [TRAIN] * 9 + [TEST] * 4
    assert items.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [0] * 2 + [2] * 2
    assert items.names[-1] == "test/c/image 1.png"


def test_a_class_may_be_called_train(tmp_path, make_images):
    assert list_folder(make_images(tmp_path, ("bus", "train"))).classes == ("bus", "train")


@pytest.mark.parametrize(
    "parts", [("train", "test"), ("Train", "val"), ("test", "valid"), ("training", "dev", "testing")]
)
def test_parts_without_class_folders_are_no_classes(tmp_path, make_images, parts):
    with pytest.raises(DataError, match="holds images straight in .* without class folders"):
        list_folder(make_images(tmp_path, parts))


def test_an_image_becomes_the_bicubic_of_its_centre_square(tmp_path, make_images):
    make_images(tmp_path, size=(50, 30), modes=("RGB",))
    items = read_folder(tmp_path, 8, tmp_path)
    with Image.open(tmp_path / "cat" / "image 0.png") as image:
        expected = image.crop((10, 0, 40, 30)).resize((8, 8), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(items.images[0].transpose(1, 2, 0), np.asarray(expected))


@pytest.mark.parametrize("modes, channels", [(("L",), 1), (("L", "RGB"), 3), (("RGBA",), 3)])
def test_grey_only_if_all_are_grey(tmp_path, make_images, modes, channels):
    assert read_folder(make_images(tmp_path, modes=modes), 6, tmp_path).images.shape[1] == channels


@pytest.mark.parametrize("mode", ["1", "P", "P with transparency", "LA", "I;16", "CMYK"])
def test_rarer_modes_are_read(tmp_path, make_images, mode):
    make_images(tmp_path)
    grey = Image.linear_gradient("L").resize((16, 16))
    first = tmp_path / "cat" / ("image 0.tif" if mode == "CMYK" else "image 0.png")
    (tmp_path / "cat" / "image 0.png").unlink()
    if mode == "I;16":
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(first)
    elif mode == "P with transparency":
        grey.convert("P").save(first, transparency=bytes(range(256)))
    else:
        grey.convert(mode).save(first)
    images = read_folder(tmp_path, 16, tmp_path).images
    assert images.shape[1] == (3 if mode == "CMYK" else 1)
    if mode == "1":
        assert set(np.unique(images[0])) == {0, 255}
    else:
        np.testing.assert_array_equal(images[0, 0], np.asarray(grey))


def test_alpha_is_dropped_and_exif_turns_the_image(tmp_path, make_images):
    make_images(tmp_path, modes=("RGB",))
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4, :, 0] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned clockwise, so that the top becomes the right.
    Image.fromarray(pixels).save(tmp_path / "cat" / "image 0.png", exif=exif)
    image = read_folder(tmp_path, 8, tmp_path).images[0]
    assert (image[0, :, 4:] == 200).all() and (image[0, :, :4] == 0).all()


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".ppm", ".pgm", ".bmp", ".webp", ".tif"])
def test_every_suffix_is_read(tmp_path, make_images, suffix):
    modes = ("L",) if suffix == ".pgm" else ("RGB",)
    assert len(read_folder(make_images(tmp_path, suffix=suffix, modes=modes), 4, tmp_path).labels) == 10


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_images_of_one_pixel_are_read(tmp_path, make_images, size):
    make_images(tmp_path, size=size)
    images = read_folder(tmp_path, 5, tmp_path).images
    assert images.shape == (10, 1, 5, 5) and (images == images[:, :, :1, :1]).all()


def test_other_files_and_hidden_ones_are_passed_over(tmp_path, make_images):
    make_images(tmp_path, count=3)
    (tmp_path / "cat" / "notes.txt").touch()
    (tmp_path / "cat" / ".hidden.png").touch()
    (tmp_path / ".cache").mkdir()
    (tmp_path / "readme.md").touch()
    listing = list_folder(tmp_path)
    assert (len(listing.files), len(listing.classes)) == (6, 2)
    assert listing.passed == {
        ".cache": "hidden",
        "cat/.hidden.png": "hidden",
        "cat/notes.txt": "no image",
        "readme.md": "no image",
    }


def test_links_are_followed(tmp_path, make_images):
    make_images(tmp_path / "real", count=3)
    (tmp_path / "linked").mkdir()
    os.symlink(tmp_path / "real" / "cat", tmp_path / "linked" / "one")
    os.symlink(tmp_path / "real" / "dög", tmp_path / "linked" / "two")
    assert len(list_folder(tmp_path / "linked").files) == 6


def test_names_that_are_not_utf8_are_read(tmp_path, make_images):
    make_images(tmp_path, count=3)
    os.rename(os.fsencode(tmp_path / "cat"), os.fsencode(tmp_path) + b"/c\xffat")
    assert "c\ufffdat" in read_folder(tmp_path, 4, tmp_path).classes


def test_images_that_cannot_be_decoded_are_counted_and_named(tmp_path, make_images):
    make_images(tmp_path, count=9, modes=("RGB",))
    whole = (tmp_path / "cat" / "image 0.png").read_bytes()
    for index in range(7):
        (tmp_path / "cat" / f"image {index}.png").write_bytes(whole[: index * 20])
    os.symlink("nowhere", tmp_path / "dög" / "gone.png")
    with pytest.raises(DataError, match=r"8 of 19 images .* cannot be decoded: cat/image 0\.png \(.*\.\.\.") as caught:
        read_folder(tmp_path, 4, tmp_path)
    assert "image 5" not in str(caught.value)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(DataError, match=r"No folder at .*none. Expected are folders of images"):
        list_folder(tmp_path / "none")


def test_a_file_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file, but must be a folder"):
        list_folder(tmp_path / "file")


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(DataError, match=r"At least 2 class folders .* but 0 found"):
        list_folder(tmp_path)


def test_a_single_class_is_told(tmp_path, make_images):
    with pytest.raises(DataError, match=r"At least 2 class folders .* but 1 found"):
        list_folder(make_images(tmp_path, ("only",)))


def test_class_folders_without_images_are_told(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.txt").touch()
    with pytest.raises(DataError, match="No images in the 2 class folders"):
        list_folder(tmp_path)


def test_small_classes_are_counted_and_named(tmp_path, make_images):
    make_images(tmp_path, ("big", "large"))
    make_images(tmp_path, tuple("abcdefg"), count=2)
    with pytest.raises(DataError, match=r"7 of 9 classes .* fewer: 'a' has 2, .*'e' has 2, \.\.\."):
        list_folder(tmp_path)


def test_folders_one_level_too_deep_are_told(tmp_path, make_images):
    make_images(tmp_path / "europe")
    make_images(tmp_path / "asia")
    with pytest.raises(
        DataError, match=r"2 folders \(asia, europe\), in them 2 folders \(cat, dög\)\. cat, dög may name"
    ):
        list_folder(tmp_path)


def test_a_class_only_in_test_is_told(tmp_path, make_images):
    make_images(tmp_path / "train", ("a", "b"))
    make_images(tmp_path / "test", ("a", "z"))
    with pytest.raises(DataError, match="'z' is not"):
        list_folder(tmp_path)


def test_a_class_with_one_training_image_is_told(tmp_path, make_images):
    make_images(tmp_path / "train", ("a", "b"), count=1)
    make_images(tmp_path / "test", ("a", "b"))
    with pytest.raises(DataError, match=r"at least 2 images in .*train"):
        list_folder(tmp_path)


def test_an_empty_test_folder_is_told(tmp_path, make_images):
    make_images(tmp_path / "train", ("a", "b"))
    (tmp_path / "test" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match=r"No images in .*test"):
        list_folder(tmp_path)


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        list_folder(tmp_path)

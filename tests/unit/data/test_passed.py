"""What is not taken is told by name, and as a warning where it may be an image."""

import pytest
from PIL import Image

from trainables.data import catalog
from trainables.data.folder import list_folder
from trainables.data.passed import OTHER, UNREAD, sentences
from trainables.errors import DataError


@pytest.mark.parametrize("kind", ["folder", ".tar", ".zip"])
@pytest.mark.parametrize("name", ["x.avif", "x.heic", "noext", "x.dat", "x.jpg_", "x.JP2"])
def test_images_of_kinds_that_are_not_read_are_a_warning(tmp_path, make_images, make_tar, name, kind):
    folder = make_images(tmp_path / "in")
    whole = (folder / "cat" / "image 0.png").read_bytes()
    (folder / "cat" / name).write_bytes(whole)
    (folder / "cat" / "notes.txt").write_text("nothing")
    place = folder if kind == "folder" else make_tar(folder, ".tar")
    if kind == ".zip":
        import shutil

        place = tmp_path / "in.zip"
        shutil.make_archive(str(tmp_path / "in"), "zip", folder.parent, folder.name)
    listing = list_folder(place)
    assert len(listing.files) == 10
    whys = {passed.rpartition("/")[2]: why for passed, why in listing.passed.items() if "in.tar" not in passed}
    assert whys == {name: UNREAD, "notes.txt": OTHER}
    said = {said.warning: said.text for said in sentences(listing.passed)}
    assert name in said[True] and "notes.txt" in said[False]


@pytest.mark.parametrize("name", ["UP.JPG", "x.jfif", "x.GIF", "x.jpe", "x.pbm", "x.TIFF"])
def test_usual_names_of_images_are_read(tmp_path, make_images, name):
    make_images(tmp_path)
    form = {"UP.JPG": "JPEG", "x.jfif": "JPEG", "x.GIF": "GIF", "x.jpe": "JPEG", "x.pbm": "PPM", "x.TIFF": "TIFF"}
    Image.new("1" if name == "x.pbm" else "L", (5, 5)).save(tmp_path / "cat" / name, form[name])
    listing = list_folder(tmp_path)
    assert len(listing.files) == 11 and not listing.passed


def test_every_file_is_read_or_named(tmp_path, make_images):
    make_images(tmp_path, count=4)
    make_images(tmp_path / "cat", ("deep", "deeper/still"), count=3)
    for name in ("a.png", "readme.md", "cat/.hidden.png", "cat/b.avif", "cat/deep/c.txt"):
        (tmp_path / name).touch()
    listing = list_folder(tmp_path)
    taken = {file.relative for file in listing.files}
    every = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert taken | set(listing.passed) == every and not taken & set(listing.passed)


def test_packing_tells_what_was_passed_over_once_and_again(tmp_path, make_images):
    make_images(tmp_path / "in")
    (tmp_path / "in" / "loose.png").touch()
    source = catalog.locate(f"folder:{tmp_path / 'in'}", data_root=None, size=8)
    catalog.pack(source, tmp_path / "packed")
    (note,) = catalog.notes_of(source, tmp_path / "packed")
    assert "loose.png" in note and "without a class folder" in note
    other = catalog.locate("digits", data_root=None)
    catalog.pack(other, tmp_path / "packed")
    assert (
        catalog.notes_of(source, tmp_path / "packed") == (note,) and catalog.notes_of(other, tmp_path / "packed") == ()
    )


def test_class_folders_without_images_are_refused_in_folders_and_archives(tmp_path, make_images, make_tar):
    folder = make_images(tmp_path / "in")
    (folder / "empty").mkdir()
    (folder / "empty" / "x.avif").touch()
    for place in (folder, make_tar(folder)):
        with pytest.raises(DataError, match="'.*empty' has 0"):
            list_folder(place)


def test_images_without_any_class_folder_are_refused(tmp_path, make_images):
    with pytest.raises(DataError, match="holds 5 images directly, but no class folders"):
        list_folder(make_images(tmp_path, ("cat",)) / "cat")


def test_archives_in_a_folder_are_pointed_to(tmp_path, make_images, make_tar):
    make_tar(make_images(tmp_path / "in" / "cat"))
    (tmp_path / "outer").mkdir()
    (tmp_path / "in" / "cat.tar").rename(tmp_path / "outer" / "cat.tar")
    with pytest.raises(DataError, match=r"but archives \(cat\.tar\)\. Name one of them"):
        list_folder(tmp_path / "outer")

import os
import shutil

import pytest

from trainables.data.datasets import DATASETS
from trainables.data.sources import listing_of, locate
from trainables.errors import DataError, UsageError

NAMED = [name for name, info in DATASETS.items() if not info.fixed]


def found(name, root, **more):
    return locate(name, data_root=root, **more)


def test_lfw_is_found_in_above_and_beside_its_folder(nasty_path, make_lfw, make_tar):
    root = make_lfw(nasty_path / "lfw_a_112")
    (nasty_path / "other").mkdir()
    folder = root / "lfw"
    assert [found("lfw", start).path for start in (folder, root, nasty_path)] == [folder] * 3
    archive = make_tar(folder)
    assert found("lfw", root).path == folder  # What was in the archive is there already.
    shutil.rmtree(folder)
    assert [found("lfw", start).path for start in (archive, root, nasty_path)] == [archive] * 3
    assert found("lfw", nasty_path).pairs == root / "pairs.txt"


@pytest.mark.parametrize("place", ["lfw", ".", ".."])
def test_pairs_are_found_in_beside_and_above(nasty_path, make_lfw, place):
    root = make_lfw(nasty_path / "set")
    os.replace(root / "pairs.txt", root / place / "pairs.moved")
    os.replace(root / place / "pairs.moved", root / place / "pairs.txt")
    source = found("lfw", root)
    assert source.pairs == (root / place / "pairs.txt").resolve()
    assert len(listing_of(source).pairs) == 4


def test_lfw_without_its_pairs_is_told(tmp_path, make_lfw):
    root = make_lfw(tmp_path / "set")
    (root / "pairs.txt").unlink()
    with pytest.raises(DataError, match=r"`lfw` needs pairs\.txt, the list of its 6,000 pairs \(View 2\), beside"):
        found("lfw", root)


@pytest.mark.parametrize("suffix", ["", ".tar"])
def test_orl_cub_and_sop_are_found_by_folder_and_archive(nasty_path, make_orl, make_cub, make_sop, make_tar, suffix):
    for name, make, folder in (
        ("orl", make_orl, "att_faces"),
        ("cub200", make_cub, "CUB_200_2011"),
        ("sop", make_sop, "Stanford_Online_Products"),
    ):
        path = make(nasty_path / name) / folder
        if suffix:
            make_tar(path, suffix)
            shutil.rmtree(path)
            path = path.with_name(folder + suffix)
        assert [found(name, root).path for root in (path, path.parent, nasty_path)] == [path] * 3
        assert len(listing_of(found(name, path)).classes) > 2


def test_cars_are_found_above_and_in_their_folder(nasty_path, make_cars):
    root = make_cars(nasty_path)
    assert found("cars196", root).path == found("cars196", root / "cars196").path == root / "cars196"


@pytest.mark.parametrize(
    ("name", "folder"), [("uccs", "UCCS"), ("umdfaces", "umdfaces"), ("casia_webface", "CASIA-WebFace")]
)
def test_folders_of_people_are_found_by_their_name(nasty_path, make_images, make_tar, name, folder):
    make_images(nasty_path / "a other", ("x", "y"))
    path = make_images(nasty_path / folder, ("ann", "bob"))
    assert found(name, nasty_path).path == found(name, path).path == path
    assert listing_of(found(name, path)).classes == ("ann", "bob")
    archive = make_tar(path)
    shutil.rmtree(path)
    assert found(name, nasty_path).path == archive
    assert listing_of(found(name, archive)).classes == ("ann", "bob")


def test_other_folders_of_images_are_not_taken_for_a_set_of_people(tmp_path, make_images):
    make_images(tmp_path / "holidays", ("rome", "oslo"))
    for root in (tmp_path, tmp_path / "holidays"):
        with pytest.raises(DataError, match=r"`uccs` is expected as <data root>/uccs/<subject>/.* holds no such thing"):
            found("uccs", root)


@pytest.mark.parametrize("name", NAMED)
def test_what_is_missing_is_told_with_what_was_expected_where(tmp_path, name):
    with pytest.raises(DataError, match=rf"`{name}` is expected as <data root>/.* with --data-root.*data show {name}"):
        found(name, None)
    with pytest.raises(DataError, match=rf"{tmp_path}/none is not there\. It cannot be fetched for you"):
        found(name, tmp_path / "none")
    with pytest.raises(DataError, match=rf"but {tmp_path} holds no such thing"):
        found(name, tmp_path)


def test_a_set_that_is_there_twice_is_not_guessed(tmp_path, make_lfw):
    for name in ("lfw", "lfw_other"):
        make_lfw(tmp_path / name)
    with pytest.raises(
        DataError, match=r"holds `lfw` 2 times: lfw/lfw, lfw_other/lfw\. Name one of them with --data-root"
    ):
        found("lfw", tmp_path)
    assert found("lfw", tmp_path / "lfw").path == tmp_path / "lfw" / "lfw"


@pytest.mark.parametrize("size", [0, -1, 1025])
def test_sizes_out_of_range_are_refused(tmp_path, size):
    with pytest.raises(UsageError, match=f"from 1 to 1024 pixels, but got {size}"):
        found("lfw", tmp_path, size=size)


def test_the_identity_follows_files_lists_and_size(tmp_path, make_lfw, make_tar):
    root = make_lfw(tmp_path)
    seen = [found("lfw", root).identity, found("lfw", root, size=8).identity]
    (root / "lfw" / "Bo" / "Bo_0002.jpg").touch()
    seen.append(found("lfw", root).identity)
    os.utime(root / "pairs.txt", (1, 1))
    seen.append(found("lfw", root).identity)
    archive = make_tar(root / "lfw")
    shutil.rmtree(root / "lfw")
    seen.append(found("lfw", root).identity)
    os.utime(archive, (1, 1))
    seen.append(found("lfw", root).identity)
    assert len(set(seen)) == 6
    assert found("lfw", root).identity == found("lfw", archive).identity == seen[-1]


def test_default_sizes_are_those_of_the_sets(tmp_path, make_lfw, make_orl, make_cub):
    make_lfw(tmp_path / "lfw_a")
    make_orl(tmp_path / "orl")
    make_cub(tmp_path / "cub")
    assert [found(name, tmp_path).size for name in ("lfw", "orl", "cub200")] == [112, 92, 256]
    assert found("lfw", tmp_path).images == 11


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        found("cub200", tmp_path)

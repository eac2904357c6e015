import io
import os
import tarfile
import zipfile

import pytest

from trainables.data.archives import each_content, in_reading_order, is_archive, text_of, tree_of
from trainables.errors import DataError

SUFFIXES = [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"]


@pytest.fixture
def birds(nasty_path):
    """A folder with files of different lengths, one of them empty."""
    folder = nasty_path / "birds"
    for number in range(12):
        path = folder / f"class {number % 3}" / f"é {number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * (number * 130))
    return folder


def add(archive, name, content=b"x", kind=tarfile.REGTYPE, target=""):
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(content) if kind == tarfile.REGTYPE else 0, kind, target
    archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_gives_the_files_of_the_folder_it_was_made_of(birds, make_tar, suffix):
    archive = make_tar(birds, suffix)
    loose = {f"birds/{name}": tree_of([birds]).bytes(name) for name in tree_of([birds]).files}
    tree = tree_of([archive])
    assert list(tree.files) == sorted(loose) and len(loose) == 12
    assert {name: tree.bytes(name) for name in tree.files} == loose
    together = list(each_content(in_reading_order(reversed(list(tree.files.values())))))
    assert [content for _, content in together] == [loose[name] for name in sorted(loose)]
    assert is_archive(archive) and not is_archive(birds)


def test_several_places_are_one_tree(birds, make_tar):
    archive = make_tar(birds)
    (birds / "list.txt").write_text("1")
    tree = tree_of([birds, archive])
    assert len(tree.files) == 25 and tree.text("list.txt") == "1"
    assert tree.bytes("birds/class 1/é 1.bin") == tree.bytes("class 1/é 1.bin")
    assert str(birds) in tree.where and str(archive) in tree.where


def test_files_of_several_archives_are_read_each_archive_once(birds, make_tar):
    places = [make_tar(birds, ".tgz"), birds, make_tar(birds, ".tar.xz")]
    files = [stored for place in places for stored in tree_of([place]).files.values()]
    lengths = [(file.size, len(content)) for file, content in each_content(in_reading_order(files))]
    assert len(lengths) == 36 and all(size == read for size, read in lengths)


def test_hostile_names_are_passed_over_and_nothing_is_written(tmp_path):
    path = tmp_path / "inside" / "evil.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("/etc/passwd", "../up.jpg", "a/../../up.jpg", "./.hidden", "__MACOSX/a/x.jpg", "a/._x.jpg"):
            add(archive, name)
        add(archive, "a/link.jpg", kind=tarfile.SYMTYPE, target="/etc/passwd")
        add(archive, "a/hard.jpg", kind=tarfile.LNKTYPE, target="/etc/passwd")
        add(archive, "a/device", kind=tarfile.CHRTYPE)
        add(archive, "a/folder.jpg", kind=tarfile.DIRTYPE)
        add(archive, "./a//good.jpg", b"good")
        add(archive, "a/b\udcff.jpg", b"not utf-8")
        add(archive, "d" * 300 + "/long.jpg", b"long")
    tree = tree_of([path])
    assert list(tree.files) == ["a/b\ufffd.jpg", "a/good.jpg", "d" * 300 + "/long.jpg"]
    assert [tree.bytes(name) for name in tree.files] == [b"not utf-8", b"good", b"long"]
    assert [entry.name for entry in tmp_path.rglob("*")] == ["inside", "evil.tar"]


def test_the_last_of_two_members_of_one_name_counts(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive, "a.txt", b"old")
        add(archive, "a.txt", b"new")
    assert tree_of([tmp_path / "x.tar"]).text("a.txt") == "new"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_a_cut_archive_is_told(birds, make_tar, suffix, share):
    archive = make_tar(birds, suffix)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"(is cut or damaged|cannot be read as an archive).*Fetch the archive again\."):
        tree_of([archive])


def test_an_archive_cut_between_two_members_is_told(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive, "a.txt", b"1" * 512)
        add(archive, "b.txt", b"2" * 512)
    os.truncate(tmp_path / "x.tar", 1024)
    with pytest.raises(DataError, match="is cut or damaged 1024 bytes from its beginning"):
        tree_of([tmp_path / "x.tar"])


def test_a_damaged_header_in_the_middle_is_told(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in "abc":
            add(archive, name, b"1" * 512)
    content = bytearray((tmp_path / "x.tar").read_bytes())
    content[1024 + 20] ^= 0xFF
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(DataError, match="is cut or damaged 1024 bytes"):
        tree_of([tmp_path / "x.tar"])


def test_a_file_that_is_no_archive_is_told(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"no tar at all" * 99)
    with pytest.raises(DataError, match="cannot be read as an archive"):
        tree_of([tmp_path / "x.tar"])
    with pytest.raises(DataError, match=r"none\.tar cannot be read"):
        tree_of([tmp_path / "none.tar"])


def test_an_archive_that_changed_since_it_was_listed_is_told_and_not_raised(birds, make_tar):
    archive = make_tar(birds)
    files = in_reading_order(tree_of([archive]).files.values())
    os.truncate(archive, 2048)
    contents = [content for _, content in each_content(files)]
    assert contents[-1] == "the archive ends within it"
    archive.unlink()
    assert all("No such file" in content for _, content in each_content(files))


def test_links_that_lead_nowhere_or_in_circles_do_no_harm(birds):
    os.symlink(birds, birds / "class 0" / "again")
    os.symlink("nowhere", birds / "gone.bin")
    tree = tree_of([birds])
    assert tree.files["gone.bin"].size == -1
    with pytest.raises(DataError, match=r"gone\.bin in .* cannot be read: FileNotFoundError"):
        tree.bytes("gone.bin")
    assert len(tree.files) == 13  # The twelve of the set, once, and the link that leads nowhere.
    assert tree.passed == {"class 0/again": "a link to a folder it lies in"}


def test_a_file_that_is_not_in_the_tree_is_told(birds):
    with pytest.raises(DataError, match=r"list\.txt must be in .*birds, but is not"):
        tree_of([birds]).text("list.txt")


def test_the_folder_nearest_to_the_top_is_found(tmp_path):
    for folder in ("b/deep/er", "z", "c"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "list.txt").touch()
    tree = tree_of([tmp_path])
    assert tree.folder_of("list.txt") == "c/"
    assert tree.folder_of("ist.txt") is None
    (tmp_path / "list.txt").touch()
    assert tree_of([tmp_path]).folder_of("list.txt") == ""


@pytest.mark.parametrize(
    ("content", "text"), [(b"\xef\xbb\xbfa", "a"), ("é".encode(), "é"), ("é".encode("latin-1"), "é"), (b"", "")]
)
def test_old_encodings_are_read(content, text):
    assert text_of(content) == text


def zip_of(folder, **more):
    """A zip beside a folder, with the folder's name as the first part of all names."""
    path = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(path, "w", **more) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_gives_the_files_of_the_folder_it_was_made_of(birds, method):
    archive = zip_of(birds, compression=method)
    loose = {f"birds/{name}": tree_of([birds]).bytes(name) for name in tree_of([birds]).files}
    tree = tree_of([archive])
    assert {name: tree.bytes(name) for name in tree.files} == loose and list(tree.files) == sorted(loose)
    together = list(each_content(in_reading_order(reversed(list(tree.files.values())))))
    assert {len(content) for _, content in together} == {len(content) for content in loose.values()}
    assert is_archive(archive) and "birds/class 0" in tree.folders


def test_what_is_no_file_in_a_zip_is_passed_over_with_the_reason(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("/etc/passwd", "../up.jpg", "a/../../up.jpg", "__MACOSX/a/x.jpg", "a/._x.jpg", "a/good.jpg"):
            archive.writestr(zipfile.ZipInfo(name), b"x")
        for name, kind in (("a/link.jpg", 0o120777), ("a/fifo.jpg", 0o010644), ("a/device.jpg", 0o020644)):
            member = zipfile.ZipInfo(name)
            member.external_attr = kind << 16
            archive.writestr(member, b"/etc/passwd")
    tree = tree_of([tmp_path / "x.zip"])
    assert list(tree.files) == ["a/good.jpg"]
    assert tree.passed["a/link.jpg"] == "a link inside an archive"
    assert tree.passed["a/fifo.jpg"] == tree.passed["a/device.jpg"] == "no regular file"
    assert tree.passed["a/._x.jpg"] == "hidden" and len(tree.passed) == 8


def test_a_zip_of_windows_has_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        member = zipfile.ZipInfo("a/1.jpg")
        member.filename, member.create_system = "a\\1.jpg", 0
        archive.writestr(member, b"x")
    assert list(tree_of([tmp_path / "x.zip"]).files) == ["a/1.jpg"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_cut_zip_is_told(birds, share):
    archive = zip_of(birds)
    os.truncate(archive, int(archive.stat().st_size * share))
    with pytest.raises(DataError, match=r"cannot be read as an archive.*Fetch the archive again\."):
        tree_of([archive])


def test_an_encrypted_zip_is_told(birds):
    archive = zip_of(birds)
    content = bytearray(archive.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match="is encrypted"):
        tree_of([archive])


def test_flipped_bits_in_a_zip_are_told(birds):
    archive = zip_of(birds, compression=zipfile.ZIP_DEFLATED)
    files = in_reading_order(tree_of([archive]).files.values())
    content = bytearray(archive.read_bytes())
    content[files[-1].offset + 60] ^= 1
    archive.write_bytes(content)
    problems = [content for _, content in each_content(files) if isinstance(content, str)]
    assert len(problems) == 1


def test_archives_written_one_after_the_other_are_told(birds, make_tar):
    archive = make_tar(birds)
    archive.write_bytes(archive.read_bytes() + archive.read_bytes())
    with pytest.raises(DataError, match="goes on after its end"):
        tree_of([archive])


def test_a_hard_link_in_a_tar_is_the_file_it_links(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"one")
    os.link(tmp_path / "in" / "a.jpg", tmp_path / "in" / "b.jpg")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "in", "in")
        add(archive, "in/c.jpg", kind=tarfile.LNKTYPE, target="../../etc/passwd")
        add(archive, "in/d.jpg", kind=tarfile.SYMTYPE, target="a.jpg")
    tree = tree_of([tmp_path / "x.tar"])
    assert tree.bytes("in/a.jpg") == tree.bytes("in/b.jpg") == b"one"
    assert tree.passed == {"in/c.jpg": "a link inside an archive", "in/d.jpg": "a link inside an archive"}


def test_a_file_that_is_in_a_tar_twice_is_told(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive, "a/1.jpg", b"old")
        add(archive, "./a/1.jpg", b"new")
    tree = tree_of([tmp_path / "x.tar"])
    assert tree.bytes("a/1.jpg") == b"new" and list(tree.passed) == ["a/1.jpg (earlier)"]


def test_folders_may_be_deep(tmp_path):
    deep = tmp_path.joinpath(*["d"] * 20)
    deep.mkdir(parents=True)
    (deep / "x.jpg").touch()
    assert list(tree_of([tmp_path]).files) == ["d/" * 20 + "x.jpg"]
    tmp_path.joinpath(*["d"] * 70).mkdir(parents=True)
    with pytest.raises(DataError, match="more than 64 folders deep"):
        tree_of([tmp_path])

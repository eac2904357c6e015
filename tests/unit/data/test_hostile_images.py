"""Whatever lies among the images, a command ends with a sentence: nothing is run, waited for or read without end."""

import io
import os
import socket
import struct
import subprocess
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from trainables.data import catalog, pixels, stored
from trainables.data.archives import tree_of
from trainables.data.folder import list_folder
from trainables.data.passed import sentences
from trainables.errors import DataError


@pytest.fixture
def birds(tmp_path, make_images):
    return make_images(tmp_path / "birds", ("a", "b"), modes=("RGB",))


def pack(folder, tmp_path):
    return catalog.pack(catalog.locate(f"folder:{folder}", data_root=None, size=8), tmp_path / "packed")


EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(%pipe%touch harm) (w) file\nshowpage\n%%EOF\n"
)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_file_that_pillow_would_hand_to_another_program_is_refused(birds, tmp_path, monkeypatch, suffix):
    def run(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", run)
    (birds / "a" / f"evil{suffix}").write_bytes(EPS)
    with pytest.raises(
        DataError, match=rf"1 of 11 images .* a/evil\{suffix} \(.*by its content it is none of JPEG, PNG"
    ):
        pack(birds, tmp_path)


@pytest.mark.parametrize("form", ["ICO", "PCX", "TGA", "PDF", "EPS", "SGI", "ICNS", "MSP"])
def test_formats_that_are_not_named_are_not_opened(birds, tmp_path, form):
    content = io.BytesIO()
    Image.new("1" if form == "MSP" else "RGB", (16, 16)).save(content, form)
    (birds / "a" / "odd.png").write_bytes(content.getvalue())
    with pytest.raises(DataError, match=r"a/odd\.png"):
        pack(birds, tmp_path)


@pytest.mark.parametrize("kind", ["fifo", "link to fifo", "link to device", "socket", "folder"])
def test_what_is_no_regular_file_is_passed_over_by_name(birds, kind):
    path = birds / "a" / "odd.png"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link to fifo":
        os.mkfifo(birds / ".fifo")
        path.symlink_to(birds / ".fifo")
    elif kind == "link to device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(path.parent)
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)
            server.close()
    else:
        path.mkdir()
    listing = list_folder(birds)
    assert len(listing.files) == 10
    if kind != "folder":
        assert listing.passed["a/odd.png"] == stored.NOT_REGULAR
        assert any(said.warning and "a/odd.png" in said.text for said in sentences(listing.passed))


def test_an_image_that_becomes_a_fifo_after_it_was_listed_is_refused(birds, tmp_path):
    source = catalog.locate(f"folder:{birds}", data_root=None, size=8)
    (birds / "a" / "image 0.png").unlink()
    os.mkfifo(birds / "a" / "image 0.png")
    listing = list_folder(birds)
    (birds / "a" / "image 1.png").unlink()
    os.mkfifo(birds / "a" / "image 1.png")
    file = next(file for file in listing.files if file.relative == "a/image 1.png")
    with pytest.raises(OSError, match="regular file"):
        with pixels.opened_image(file, None):
            pass
    assert source.images == 10


def png_header(width, height):
    body = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", body), (b"IDAT", zlib.compress(bytes(1 << 20))), (b"IEND", b"")]
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("side", [10_000, 20_000, 60_000])
def test_images_made_to_fill_the_memory_are_refused_by_name(birds, tmp_path, side):
    (birds / "b" / "bomb.png").write_bytes(png_header(side, side))
    with pytest.raises(DataError, match=r"1 of 11 images .* b/bomb\.png \((Value|DecompressionBomb).*pixels"):
        pack(birds, tmp_path)


def test_files_of_more_bytes_than_an_image_has_are_not_read(birds, tmp_path):
    with open(birds / "b" / "huge.png", "wb") as file:
        file.write((birds / "b" / "image 0.png").read_bytes())
        file.truncate(stored.FILE_BYTES + 1)
    with pytest.raises(DataError, match=r"b/huge\.png \(TooLargeError"):
        pack(birds, tmp_path)


def test_a_zip_that_unpacks_to_more_than_an_image_is_refused_by_name(tmp_path, make_images, monkeypatch):
    folder = make_images(tmp_path / "in", ("a", "b"))
    monkeypatch.setattr("trainables.data.archives.FILE_BYTES", 1 << 16)
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
        archive.writestr("in/a/bomb.png", bytes(1 << 20))
    with pytest.raises(DataError, match=r"1 of 11 .* in/a/bomb\.png \(.*1,048,576 bytes"):
        pack(tmp_path / "in.zip", tmp_path)


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path, make_images):
    folder = make_images(tmp_path / "in", ("a", "b"))
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
    content = (tmp_path / "in.zip").read_bytes()
    at = content.index(b"PK\x01\x02") + 24
    (tmp_path / "in.zip").write_bytes(content[:at] + struct.pack("<I", 7) + content[at + 4 :])
    with pytest.raises(DataError, match=r"1 of 10 images"):
        pack(tmp_path / "in.zip", tmp_path)


def test_names_cannot_write_to_the_terminal(birds, tmp_path):
    (birds / "a" / "x\x1b]0;evil\x07\n.png").write_bytes(b"no image")
    (birds / "a" / "y\x1b[2J.txt").touch()
    with pytest.raises(DataError) as caught:
        pack(birds, tmp_path)
    said = " ".join(said.text for said in sentences(list_folder(birds).passed))
    for text in (str(caught.value), said):
        assert "\x1b" not in text and "\n" not in text and "\x07" not in text


def test_two_names_that_are_no_utf8_and_would_become_one_are_refused(birds):
    for end in (b"\xff", b"\xfe"):
        with open(os.fsencode(birds) + b"/a/x" + end + b".png", "wb"):
            pass
    with pytest.raises(DataError, match="Two files are called"):
        tree_of([birds])


def test_two_folders_whose_names_would_become_one_are_refused(birds, make_images):
    for end in (b"\xff", b"\xfe"):
        os.mkdir(os.fsencode(birds) + b"/x" + end)
    with pytest.raises(DataError, match="Two folders in"):
        tree_of([birds])


def test_a_header_of_a_tar_that_claims_much_memory_is_refused(tmp_path):
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    (tmp_path / "x.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with pytest.raises(DataError, match=r"x\.tar .*8,589,934,592 bytes"):
        tree_of([tmp_path / "x.tar"])


def test_an_index_that_is_no_file_is_replaced(birds, tmp_path):
    (tmp_path / "packed").mkdir()
    os.mkfifo(tmp_path / "packed" / "index.json")
    assert pack(birds, tmp_path).train_images == 8
    assert (tmp_path / "packed" / "index.json").is_file()


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_noise_of_every_format_is_decoded_or_refused_and_never_raised(birds, tmp_path):
    random = np.random.RandomState(0)
    listing = list_folder(birds)
    content = io.BytesIO()
    for form in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM"):
        content = io.BytesIO()
        Image.fromarray(random.randint(0, 256, (9, 9, 3)).astype(np.uint8)).save(content, form)
        whole = bytearray(content.getvalue())
        for _ in range(30):
            harmed = bytearray(whole)
            for place in random.randint(0, len(whole), 4):
                harmed[place] ^= 1 << random.randint(8)
            for cut in (len(harmed), random.randint(1, len(harmed))):
                pixels.header_of(listing.files[0], bytes(harmed[:cut]))
                pixels.extremes_of(listing.files[0], bytes(harmed[:cut]))
                try:
                    made = pixels.decoded(listing.files[0], bytes(harmed[:cut]), 8, 3, pixels.Scale())
                    assert len(made) == 192
                except pixels.DAMAGE:
                    pass

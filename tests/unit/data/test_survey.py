"""How values that are not 8 bits become 8 bits, and what is said about it."""

import numpy as np
import pytest
from PIL import Image

from trainables.data import catalog
from trainables.data.folder import list_folder
from trainables.data.packed import item_names, open_packed
from trainables.data.survey import survey
from trainables.errors import DataError


@pytest.fixture
def make_arrays(tmp_path):
    """Two classes of three images made of arrays; gives the folder and the arrays by name."""

    def make(arrays, suffix=".tif", **more):
        made = {}
        for number, array in enumerate(arrays):
            name = f"{'ab'[number % 2]}/{number}{suffix}"
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array, **more).save(tmp_path / "in" / name)
            made[name] = array
        return tmp_path / "in", made

    return make


def packed_of(folder, tmp_path, side=8):
    source = catalog.locate(f"folder:{folder}", data_root=None, size=side)
    info = catalog.pack(source, tmp_path / "packed")
    images = dict(zip(item_names(info.path), open_packed(info.path).images, strict=True))
    return images, catalog.notes_of(source, tmp_path / "packed")


def noise(count, top, dtype, side=8, low=0):
    random = np.random.RandomState(top % 1000)
    arrays = [random.randint(low, top + 1, (side, side)).astype(dtype) for _ in range(count)]
    arrays[0][0, 0] = top
    return arrays


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize(
    ("top", "bits"), [(4095, 12), (3000, 12), (1023, 10), (16383, 14), (65535, 16), (200, 8), (1, 1)]
)
def test_images_of_16_bits_are_scaled_by_the_bits_they_use(tmp_path, make_arrays, top, bits, suffix):
    folder, arrays = make_arrays(noise(6, top, np.uint16), suffix)
    images, notes = packed_of(folder, tmp_path)
    for name, array in arrays.items():
        expected = np.rint(array.astype(float) * 255 / (2**bits - 1)).astype(np.uint8)
        np.testing.assert_array_equal(images[name][0], expected)
    assert any(f"6 images have more than 8 bits per pixel, the largest value is {top}" in note for note in notes)
    assert any(f"taken as {bits} bits, so that {2**bits - 1} becomes 255" in note for note in notes)


@pytest.mark.parametrize(("top", "white"), [(1.0, 1.0), (0.4, 1.0), (200.0, 255.0), (4000.0, 4095.0)])
def test_images_of_fractions_are_scaled_by_their_largest_value(tmp_path, make_arrays, top, white):
    random = np.random.RandomState(0)
    floats = [(random.rand(8, 8) * top).astype(np.float32) for _ in range(6)]
    floats[0][0, 0] = top
    folder, arrays = make_arrays(floats)
    images, notes = packed_of(folder, tmp_path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(
            images[name][0], np.rint(array.astype(np.float64) / (white / 255)).astype(np.uint8)
        )
    assert any(f"6 images hold floating point numbers, the largest value is {top:g}" in note for note in notes)


@pytest.mark.parametrize(
    "array",
    [
        np.full((8, 8), -1.0, np.float32),
        np.full((8, 8), np.nan, np.float32),
        np.full((8, 8), np.inf, np.float32),
        np.full((8, 8), 70000.0, np.float32),
        np.full((8, 8), 70000, np.int32),
        np.full((8, 8), -5, np.int32),
    ],
)
def test_values_without_a_known_range_are_refused_by_name(tmp_path, make_arrays, array):
    folder, _ = make_arrays([*noise(5, 255, np.uint8), array])
    with pytest.raises(DataError, match=r"must lie between 0 and 65535, but those of b/5\.tif go from"):
        packed_of(folder, tmp_path)
    rows = catalog.check(catalog.locate(f"folder:{folder}", data_root=None))
    assert [row.ok for row in rows if "b/5.tif" in row.message] == [False]


def test_one_bright_image_among_dark_ones_is_told(tmp_path, make_arrays):
    folder, _ = make_arrays([*noise(5, 4000, np.uint16), *noise(1, 65535, np.uint16)])
    _, notes = packed_of(folder, tmp_path)
    assert any("half of them stay at or below" in note and "b/5.tif has the largest" in note for note in notes)


def test_eight_bits_beside_sixteen_stay_as_they_are(tmp_path, make_arrays):
    folder, arrays = make_arrays([*noise(3, 255, np.uint8), *noise(3, 4095, np.uint16)])
    images, _ = packed_of(folder, tmp_path)
    np.testing.assert_array_equal(images["a/0.tif"][0], arrays["a/0.tif"])
    assert images["b/3.tif"].max() == 255


def png_of_16_bits(path, values):
    """An RGB image of 16 bits per channel [H, W, 3], which Pillow cannot write."""
    import struct
    import zlib

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("top", "refused"), [(4095, True), (16000, True), (65535, False)])
def test_colour_of_16_bits_is_read_unless_its_upper_bits_are_empty(tmp_path, top, refused):
    random = np.random.RandomState(0)
    for number in range(6):
        values = random.randint(0, top + 1, (8, 8, 3))
        values[0, 0] = top
        png_of_16_bits(tmp_path / "in" / "ab"[number % 2] / f"{number}.png", values)
    if refused:
        with pytest.raises(DataError, match="6 colour images have 16 bits per channel, .* nearly black"):
            packed_of(tmp_path / "in", tmp_path)
        return
    images, notes = packed_of(tmp_path / "in", tmp_path)
    assert images["a/0.png"].max() == 255 and any("6 colour images have 16 bits" in note for note in notes)


def test_nearly_black_sets_of_8_bits_are_told_and_left_alone(tmp_path, make_arrays):
    folder, arrays = make_arrays(noise(6, 15, np.uint8))
    images, notes = packed_of(folder, tmp_path)
    np.testing.assert_array_equal(images["a/0.tif"][0], arrays["a/0.tif"])
    assert len(notes) == 1 and "no pixel is brighter than 15 of 255" in notes[0]


def test_ordinary_images_say_nothing(tmp_path, make_images):
    make_images(tmp_path / "in", modes=("L", "RGB"))
    assert packed_of(tmp_path / "in", tmp_path)[1] == ()
    found = survey(list_folder(tmp_path / "in"))
    assert (found.channels, found.scale, found.said) == (3, None, ())


def test_images_that_are_enlarged_are_told(tmp_path, make_images):
    make_images(tmp_path / "in", size=(12, 9))
    (note,) = packed_of(tmp_path / "in", tmp_path, side=16)[1]
    assert "usual image has 9 pixels and is enlarged to 16; --data-size 9" in note


def test_kinds_that_lose_something_are_counted(tmp_path, make_images):
    make_images(tmp_path, count=9, modes=("RGB",))
    cat = tmp_path / "cat"
    image = Image.open(cat / "image 0.png").convert("RGB")
    image.convert("CMYK").save(cat / "0.tif")
    image.convert("1").save(cat / "1.png")
    image.convert("P").save(cat / "2.png")
    image.convert("RGBA").save(cat / "3.png")
    image.save(cat / "4.tif", save_all=True, append_images=[image, image])
    image.save(cat / "5.gif")
    said = {row.text.partition(" have ")[2] or row.text: row.warning for row in survey(list_folder(tmp_path)).said}
    assert len(said) == 5 and sorted(said.values()) == [False, False, True, True, True]
    assert all(row.text.startswith(("1 of 24", "2 of 24")) for row in survey(list_folder(tmp_path)).said)


def test_a_picture_that_is_all_in_the_alpha_channel_is_refused_by_name(tmp_path, make_images):
    make_images(tmp_path / "in", modes=("RGB",))
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[2:5, 2:5, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "in" / "cat" / "image 0.png")
    with pytest.raises(DataError, match=r"1 of 10 images .* cat/image 0\.png \(.*its alpha channel"):
        packed_of(tmp_path / "in", tmp_path)

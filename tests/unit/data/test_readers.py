import os
import pickle

import numpy as np
import pytest

from trainables.data.packed import TEST
from trainables.data.readers import load_pickle, read_cifar, read_digits
from trainables.data.sets import cifar10, cifar100
from trainables.errors import DataError

LAYOUTS = {"cifar10": cifar10.LAYOUT, "cifar100": cifar100.LAYOUT}


def test_digits_fill_the_whole_range_and_keep_their_split():
    items = read_digits()
    assert items.images.shape == (1797, 1, 8, 8) and items.images.dtype == np.uint8
    assert set(np.unique(items.images)) == {round(value * 255 / 16) for value in range(17)}
    tested = np.bincount(items.labels[items.split == TEST])
    np.testing.assert_allclose(tested, 0.3 * np.bincount(items.labels), atol=0.5)
    assert np.flatnonzero(items.split == TEST)[:8].tolist() == [1, 3, 4, 12, 21, 27, 31, 32]


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("name, folder", [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")])
def test_cifar_is_read_from_its_folder(nasty_path, make_cifar, name, folder, protocol):
    items = read_cifar(LAYOUTS[name], make_cifar(nasty_path, name, protocol=protocol) / folder)
    first = pickle.loads((nasty_path / folder / ("data_batch_1" if name == "cifar10" else "train")).read_bytes())
    np.testing.assert_array_equal(items.images[:20], first[b"data"].reshape(-1, 3, 32, 32))
    assert items.classes == ("a", "b", "c", "d")
    assert int((items.split == TEST).sum()) == 20
    assert items.names[-1].endswith("/test_batch_19.png" if name == "cifar10" else "/test_19.png")


class Poison:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_poisoned_pickle_runs_nothing(tmp_path, make_cifar, protocol):
    folder = make_cifar(tmp_path) / "cifar-100-python"
    (folder / "train").write_bytes(pickle.dumps({b"data": Poison(tmp_path / "harm")}, protocol=protocol))
    with pytest.raises(DataError, match=r"mkdir, which CIFAR's files do not hold; it was not run"):
        read_cifar(cifar100.LAYOUT, folder)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "name", ["builtins eval", "numpy load", "numpy.core.multiarray scalar", "os system", "functools partial"]
)
def test_no_other_name_is_looked_up(tmp_path, name):
    module, attribute = name.split()
    (tmp_path / "x").write_bytes(f"c{module}\n{attribute}\n(S'1'\ntR.".encode())
    with pytest.raises(DataError, match="was not run"):
        load_pickle(tmp_path / "x")


@pytest.mark.parametrize("array", [np.zeros(3), np.array(["a"], dtype=object), np.zeros(2, "u1,u1")])
def test_arrays_of_other_types_are_refused(tmp_path, array):
    (tmp_path / "x").write_bytes(pickle.dumps(array, protocol=2))
    with pytest.raises(DataError):
        load_pickle(tmp_path / "x")


@pytest.mark.parametrize("keep", [0, 1, 40, 3000, -1])
def test_a_cut_archive_is_told(tmp_path, make_cifar, keep):
    folder = make_cifar(tmp_path) / "cifar-100-python"
    content = (folder / "train").read_bytes()
    (folder / "train").write_bytes(content[:keep])
    with pytest.raises(DataError, match=r"train is damaged .* Unpack the archive again\."):
        read_cifar(cifar100.LAYOUT, folder)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {b"data": b"pixels"},
        {b"data": np.zeros((2, 5), np.uint8)},
        {b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [0]},
        {b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [0, 4]},
        {b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [0, "1"]},
    ],
)
def test_content_that_does_not_fit_is_told(tmp_path, make_cifar, content):
    folder = make_cifar(tmp_path) / "cifar-100-python"
    (folder / "train").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match="must hold"):
        read_cifar(cifar100.LAYOUT, folder)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_pickles_of_protocol_5_are_those_of_protocol_2(tmp_path, make_cifar, name):
    folder = "cifar-10-batches-py" if name == "cifar10" else "cifar-100-python"
    old = read_cifar(LAYOUTS[name], make_cifar(tmp_path / "2", name, protocol=2) / folder)
    new = read_cifar(LAYOUTS[name], make_cifar(tmp_path / "5", name, protocol=5) / folder)
    np.testing.assert_array_equal(new.images, old.images)
    np.testing.assert_array_equal(new.labels, old.labels)
    assert new.names == old.names and new.classes == old.classes


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["i8", ">i4", "u1", "<i2"])
def test_labels_and_pixels_saved_again_by_other_tools_are_read(tmp_path, make_cifar, protocol, order, dtype):
    folder = make_cifar(tmp_path) / "cifar-100-python"
    pixels = np.asarray(np.random.RandomState(1).randint(0, 256, (20, 3072)).astype(np.uint8), order=order)
    content = {"data": pixels, "fine_labels": np.arange(20).astype(dtype) % np.array(4, dtype)}
    (folder / "train").write_bytes(pickle.dumps(content, protocol=protocol))
    items = read_cifar(cifar100.LAYOUT, folder)
    np.testing.assert_array_equal(items.images[:20].reshape(20, -1), pixels)
    assert items.labels[:20].tolist() == [number % 4 for number in range(20)]


@pytest.mark.parametrize("key", [b"data", b"fine_labels"])
@pytest.mark.parametrize("name", [b"numpy.core.multiarray\n_reconstruct", b"numpy\nndarray"])
def test_an_array_that_is_never_filled_is_told(tmp_path, make_cifar, key, name):
    folder = make_cifar(tmp_path) / "cifar-100-python"
    whole = pickle.loads((folder / "train").read_bytes())
    rest = pickle.dumps({k: v for k, v in whole.items() if k != key}, protocol=2)
    assert rest[-2:] == b"u."
    short = bytes([len(key)])
    empty = b"U" + short + key + b"c" + name + b"\n(tR"  # The name, called without arguments.
    (folder / "train").write_bytes(rest[:-1] + empty + b"s.")
    with pytest.raises(DataError, match="an array '.*' that is never filled"):
        read_cifar(cifar100.LAYOUT, folder)


@pytest.mark.parametrize("names", [[], [1, 2, 3, 4], [b"a", b"a", b"b", b"c"], [None] * 4, [[b"a"]] * 4])
def test_class_names_that_are_none_are_told(tmp_path, make_cifar, names):
    folder = make_cifar(tmp_path) / "cifar-100-python"
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": names}, protocol=2))
    with pytest.raises(DataError, match="meta must name"):
        read_cifar(cifar100.LAYOUT, folder)


def test_a_pickle_that_would_reserve_much_memory_is_told(tmp_path):
    (tmp_path / "x").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    with pytest.raises(DataError, match=r"x is damaged \(ValueError: it numbers an object 2,147,483,647"):
        load_pickle(tmp_path / "x")


def test_a_pickle_that_is_no_regular_file_is_told(tmp_path):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(DataError, match="x cannot be read: .*must be a regular file"):
        load_pickle(tmp_path / "x")


def test_bits_that_flip_in_a_pickle_are_told_or_read(tmp_path, make_cifar):
    folder = make_cifar(tmp_path) / "cifar-100-python"
    random = np.random.RandomState(0)
    for protocol in (2, 5):
        whole = pickle.dumps(pickle.loads((folder / "train").read_bytes()), protocol=protocol)
        heads = [*range(200), *range(len(whole) - 800, len(whole))]  # Where it is more than pixels.
        for place in random.choice(heads, 300):
            harmed = bytearray(whole)
            harmed[place] ^= 1 << random.randint(8)
            (folder / "train").write_bytes(harmed)
            try:
                assert len(read_cifar(cifar100.LAYOUT, folder).labels) == 40
            except DataError:
                pass

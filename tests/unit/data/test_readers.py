import os
import pickle

import numpy as np
import pytest

from trainables.data.packed import TEST
from trainables.data.readers import load_pickle, read_cifar, read_digits
from trainables.errors import DataError


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
    items = read_cifar(name, make_cifar(nasty_path, name, protocol=protocol) / folder)
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
        read_cifar("cifar100", folder)
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
        read_cifar("cifar100", folder)


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
        read_cifar("cifar100", folder)

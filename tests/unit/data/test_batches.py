import shutil

import numpy as np
import pytest
import torch

from trainables.data import batches
from trainables.data.packed import open_packed
from trainables.errors import UsageError


def test_an_epoch_is_a_permutation():
    parts = batches.epoch_batches(10, 4, seed=0, epoch=0, drop_last=False)
    assert [len(part) for part in parts] == [4, 4, 2]
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
    assert parts[0].dtype == torch.int64


def test_dropping_the_last_keeps_full_batches():
    assert [len(part) for part in batches.epoch_batches(10, 4, seed=0, epoch=0, drop_last=True)] == [4, 4]
    assert [len(part) for part in batches.epoch_batches(8, 4, seed=0, epoch=0, drop_last=True)] == [4, 4]


def test_the_order_depends_on_seed_and_epoch_only():
    def order(seed, epoch):
        return torch.cat(batches.epoch_batches(50, 7, seed=seed, epoch=epoch, drop_last=False)).tolist()

    torch.manual_seed(0)
    first = order(1, 2)
    torch.manual_seed(9)
    assert order(1, 2) == first
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_generators_differ_by_seed_epoch_and_purpose_and_never_change():
    assert batches.generator(0, 0, "order").initial_seed() == 6966386321333152537
    seeds = {
        batches.generator(seed, epoch, purpose).initial_seed()
        for seed in (-1, 0, 1, 11, 2**62)
        for epoch in (0, 1, 11)
        for purpose in ("order", "views")
    }
    assert len(seeds) == 30


@pytest.mark.parametrize("count, size", [(0, 4), (4, 0), (3, 4)])
def test_epochs_without_batches_are_refused(count, size):
    with pytest.raises(UsageError, match="batch_size"):
        batches.epoch_batches(count, size, seed=0, epoch=0, drop_last=True)


def test_loaded_items_are_writable_copies(make_packed):
    packed = make_packed()
    images, labels = batches.load(packed, np.array([3, 1]))
    assert images.dtype == torch.uint8 and labels.dtype == torch.int64
    np.testing.assert_array_equal(images.numpy(), packed.images[[3, 1]])
    np.testing.assert_array_equal(labels.numpy(), packed.labels[[3, 1]])
    images.zero_()
    assert packed.images[3].any()


def test_statistics_equal_numpy_and_ignore_the_order(make_packed):
    packed = make_packed(channels=3)
    chosen = np.arange(0, 70, 3)
    mean, std = batches.statistics(packed, chosen)
    pixels = packed.images[chosen].astype(np.float64) / 255
    np.testing.assert_allclose(mean.numpy(), pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std.numpy(), pixels.std(axis=(0, 2, 3)), rtol=1e-12)
    again = batches.statistics(packed, chosen[::-1].copy())
    assert torch.equal(again[0], mean) and torch.equal(again[1], std)


def test_statistics_are_read_once_for_each_file_and_split(packed_digits, tmp_path, monkeypatch):
    read = []
    plain = batches.statistics
    monkeypatch.setattr(
        batches, "statistics", lambda packed, chosen: (read.append(chosen.tolist()), plain(packed, chosen))[1]
    )
    batches._statistics_of.cache_clear()
    packed, chosen = open_packed(packed_digits.path), np.arange(0, 1001, 7)
    expected = plain(packed, chosen)
    for order in (chosen, chosen[::-1].copy(), chosen):
        mean, std = batches.remembered_statistics(open_packed(packed_digits.path), order)
        assert torch.equal(mean, expected[0]) and torch.equal(std, expected[1])
        mean.zero_()  # What is given out is nobody else's.
    assert read == [chosen.tolist()]
    other = batches.remembered_statistics(packed, chosen[:-1])
    assert torch.equal(other[0], plain(packed, chosen[:-1])[0])
    copied = tmp_path / packed_digits.path.name
    shutil.copyfile(packed_digits.path, copied)
    batches.remembered_statistics(open_packed(copied), chosen)
    assert len(read) == 3
    for last in range(100):
        batches.remembered_statistics(packed, chosen[last:])
    assert batches._statistics_of.cache_info().currsize == batches._REMEMBERED
    batches._statistics_of.cache_clear()


def test_statistics_of_the_last_items_alone_are_theirs(packed_digits):
    packed = open_packed(packed_digits.path)
    chosen = np.array([len(packed.labels) - 1])
    assert torch.equal(batches.remembered_statistics(packed, chosen)[0], batches.statistics(packed, chosen)[0])


def test_normalised_images_have_mean_zero_and_deviation_one(make_packed):
    packed = make_packed(channels=3)
    chosen = np.arange(70)
    images = batches.to_float(batches.load(packed, chosen)[0])
    assert images.dtype == torch.float32 and images.max() == 1.0
    result = batches.normalise(images, *batches.statistics(packed, chosen))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std(dim=(0, 2, 3), correction=0), torch.ones(3))


def test_images_without_contrast_stay_finite(make_packed, monkeypatch):
    packed = make_packed()
    object.__setattr__(packed, "images", np.full_like(packed.images, 7))
    object.__setattr__(packed, "state", None)  # No file holds them.
    mean, std = batches.statistics(packed, np.arange(5))
    assert float(std) == 1 / 255 and float(mean) == pytest.approx(7 / 255)


def test_statistics_of_nothing_are_refused(make_packed):
    with pytest.raises(UsageError, match="at least one image"):
        batches.statistics(make_packed(), np.array([], dtype=np.int64))

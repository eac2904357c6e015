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


def share_with_a_positive(parts, labels):
    """Of all images in batches, the share that has another one of its class beside it."""
    counts = [torch.bincount(labels[part])[labels[part]] for part in parts]
    return float((torch.cat(counts) > 1).double().mean())


def balanced(labels, size, images, *, seed=0, epoch=1, drop_last=True):
    return batches.balanced_batches(labels, size, images, seed=seed, epoch=epoch, drop_last=drop_last)


def test_groups_of_one_class_give_nearly_every_anchor_a_positive():
    labels = torch.arange(11_318).repeat_interleave(5)  # Stanford Online Products: 5.3 images a product.
    usual = batches.epoch_batches(len(labels), 128, seed=0, epoch=1, drop_last=True)
    assert share_with_a_positive(usual, labels) < 0.015
    parts = balanced(labels, 128, 4)
    assert share_with_a_positive(parts, labels) == 1.0
    assert all(110 < len(part) <= 128 for part in parts[:-1])
    assert len(torch.cat(parts)) > 0.99 * len(labels)


@pytest.mark.parametrize("size", [4, 5, 9, 40, 128, 10_000])
@pytest.mark.parametrize("counts", [(5,) * 30, (1, 2, 3, 4, 5, 6, 7, 100), (3, 0, 3), (60, 60), (1, 1, 1)])
def test_every_image_comes_once_in_an_epoch_whatever_the_classes_and_batches(counts, size):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    size = min(size, len(labels))
    parts = balanced(labels, size, 2, drop_last=False)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(labels)))
    assert all(0 < len(part) <= size for part in parts)
    alone = {label for label, count in enumerate(counts) if count == 1}
    for part in parts:
        found = torch.bincount(labels[part])
        # A group has 2 or 3 images; only classes of one image stand alone.
        assert all(int(found[label]) > 1 or label in alone for label in labels[part].tolist())
    kept = balanced(labels, size, 2, drop_last=True)
    assert [part.tolist() for part in kept] == [part.tolist() for part in parts][: len(kept)]
    assert len(kept) >= 1 and len(parts) - len(kept) == (len(parts) > 1 and 2 * len(parts[-1]) < size)


def test_a_class_fills_no_batch_alone_where_others_have_images():
    labels = torch.arange(2).repeat_interleave(40)
    for epoch in range(1, 6):
        parts = balanced(labels, 8, 4, epoch=epoch)
        assert all(len(torch.unique(labels[part])) == 2 for part in parts)


def test_groups_depend_on_seed_and_epoch_only_and_leave_torchs_generator_alone():
    labels = torch.arange(20).repeat_interleave(5)
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    first = torch.cat(balanced(labels, 16, 4, seed=1, epoch=2)).tolist()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(9)
    assert torch.cat(balanced(labels, 16, 4, seed=1, epoch=2)).tolist() == first
    found = {tuple(torch.cat(balanced(labels, 16, 4, seed=s, epoch=e)).tolist()) for s in range(3) for e in range(3)}
    assert len(found) == 9


def test_groups_meet_others_in_each_epoch():
    labels = torch.zeros(8, dtype=torch.int64)
    groups = {frozenset(part.tolist()) for epoch in range(10) for part in balanced(labels, 8, 4, epoch=epoch)}
    assert groups == {frozenset(range(8))}
    labels = torch.arange(2).repeat_interleave(8)
    sets = {
        frozenset(i for i in part.tolist() if i < 8)
        for epoch in range(10)
        for part in balanced(labels, 8, 4, epoch=epoch)
    }
    assert len(sets) > 10


@pytest.mark.parametrize("count, size, images", [(0, 4, 2), (10, 3, 2), (10, 4, 0)])
def test_groups_that_do_not_fit_are_refused(count, size, images):
    with pytest.raises(UsageError, match="images_per_class"):
        balanced(torch.zeros(count, dtype=torch.int64), size, images)

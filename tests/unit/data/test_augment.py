import pytest
import torch
from torch.nn import functional

from trainables.data.augment import KINDS, augment, view, view_count
from trainables.errors import UsageError


def noise(count, side=6, channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (count, channels, side, side), generator=generator, dtype=torch.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "kind, pad, count",
    [
        ("none", 4, 1),
        ("flip", 4, 2),
        ("crop", 4, 81),
        ("crop_flip", 4, 162),
        ("crop", 0, 1),
        ("crop_flip", 0, 2),
    ],
)
def test_all_views_are_there_and_distinct(kind, pad, count):
    assert view_count(kind, pad) == count
    views = view(noise(1).expand(count, -1, -1, -1), kind, pad, torch.arange(count))
    assert len({image.numpy().tobytes() for image in views}) == count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pad", [0, 2, 8])
def test_a_view_is_made_again_from_its_index(kind, pad):
    images = noise(50)
    views, index = augment(images, kind, pad=pad, generator=seeded())
    assert views.dtype == torch.uint8 and index.dtype == torch.int64 and index.shape == (50,)
    assert torch.equal(view(images, kind, pad, index), views)


def test_views_equal_the_loop():
    images, pad = noise(40), 2
    views, index = augment(images, "crop_flip", pad=pad, generator=seeded())
    for image, made, number in zip(images, views, index.tolist(), strict=True):
        place, flipped = divmod(number, 2)
        row, column = divmod(place, 2 * pad + 1)
        expected = functional.pad(image, (pad, pad, pad, pad))[:, row : row + 6, column : column + 6]
        assert torch.equal(made, expected.flip(2) if flipped else expected)


def test_the_middle_view_is_the_image_itself():
    images = noise(3)
    assert torch.equal(view(images, "crop_flip", 4, 80), images)
    assert torch.equal(view(images, "crop_flip", 4, 81), images.flip(3))
    assert torch.equal(view(images, "none", 4, 0), images)


def test_views_depend_on_the_generator_only():
    images = noise(64)
    torch.manual_seed(1)
    first = augment(images, "crop_flip", pad=4, generator=seeded(5))[1]
    state = torch.get_rng_state()
    assert torch.equal(augment(images, "crop_flip", pad=4, generator=seeded(5))[1], first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(augment(images, "crop_flip", pad=4, generator=seeded(6))[1], first)


def test_all_views_are_about_equally_likely():
    index = augment(noise(1, side=1, channels=1).expand(16200, -1, -1, -1), "crop_flip", pad=4, generator=seeded())[1]
    counts = torch.bincount(index, minlength=162)
    assert ((counts - 100.0) ** 2 / 100).sum() < 220  # Chi-square with 161 degrees: mean 161, 0.1 % above 221.


def test_the_images_are_left_alone():
    images = noise(8)
    before = images.clone()
    augment(images, "crop_flip", pad=4, generator=seeded())
    assert torch.equal(images, before)


def test_an_empty_batch_stays_empty():
    views, index = augment(noise(0), "crop_flip", pad=4, generator=seeded())
    assert views.shape == (0, 3, 6, 6) and len(index) == 0


@pytest.mark.parametrize("index", [-1, 162])
def test_an_index_beyond_the_views_is_refused(index):
    with pytest.raises(UsageError, match="from 0 to 161"):
        view(noise(2), "crop_flip", 4, index)


def test_unknown_kinds_and_pads_are_refused():
    with pytest.raises(UsageError, match="Did you mean 'crop_flip'"):
        view_count("crop-flip", 4)
    with pytest.raises(UsageError, match="pad"):
        view_count("crop", -1)

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.data.degrade import degrade
from trainables.errors import UsageError

PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def pattern(side, seed=0):
    """Waves, sharp edges and noise, float [1, 3, side, side], whole 255ths."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.linspace(0, 9, side)
    waves = 0.5 + 0.5 * torch.sin(grid[:, None] * grid[None, :])
    image = torch.stack([waves, (waves > 0.5).float(), torch.rand(side, side, generator=generator)])
    return (image * 255).round()[None] / 255


SIDES = [(112, 16), (32, 16), (32, 12), (64, 63), (8, 1), (33, 7)]


@pytest.mark.parametrize("filter", ["bicubic", "bilinear"])
@pytest.mark.parametrize("side, resolution", SIDES)
def test_reducing_equals_pillow_on_floats(filter, side, resolution):
    images = pattern(side)
    ours = degrade(images, resolution, filter=filter)[0].numpy()
    for channel in range(3):
        reduced = Image.fromarray(images[0, channel].numpy()).resize((resolution, resolution), PILLOW[filter])
        np.testing.assert_allclose(ours[channel], np.asarray(reduced).clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("filter", ["bicubic", "bilinear"])
@pytest.mark.parametrize("side, resolution", SIDES)
def test_reducing_equals_pillow_on_eight_bits(filter, side, resolution):
    # On 8 bits Pillow also rounds and clips between its two passes, so images must stay off black and white.
    images = ((pattern(side) * 0.6 + 0.2) * 255).round() / 255
    pixels = (images[0] * 255).round().to(torch.uint8).numpy()
    ours = degrade(images, resolution, filter=filter)[0].numpy() * 255
    for channel in range(3):
        reduced = Image.fromarray(pixels[channel]).resize((resolution, resolution), PILLOW[filter])
        np.testing.assert_allclose(ours[channel], np.asarray(reduced, dtype=np.float32), atol=2)


def test_area_is_the_mean_of_the_pixels_covered():
    images = pattern(8)
    expected = images.reshape(1, 3, 4, 2, 4, 2).mean(dim=(3, 5))
    torch.testing.assert_close(degrade(images, 4, filter="area"), expected)


@pytest.mark.parametrize("filter", ["bicubic", "area", "bilinear"])
@pytest.mark.parametrize("blur", [0.0, 0.7, 20.0])
def test_values_stay_in_range_and_flat_images_flat(filter, blur):
    for images in (pattern(16), (pattern(16, seed=1) > 0.5).float()):
        reduced = degrade(images, 5, filter=filter, blur=blur)
        assert reduced.shape == (1, 3, 5, 5) and reduced.min() >= 0 and reduced.max() <= 1
    torch.testing.assert_close(degrade(torch.full((2, 1, 9, 9), 0.3), 4, blur=blur), torch.full((2, 1, 4, 4), 0.3))


def test_nothing_to_do_gives_the_input():
    images = pattern(8)
    assert degrade(images, 8) is images


def test_blur_equals_the_loop_over_gaussian_weights():
    image = torch.zeros(1, 1, 15, 15)
    image[0, 0, 7, 7] = 1
    offsets = np.arange(-3, 4)
    weights = np.exp(-(offsets**2) / 2)
    weights /= weights.sum()
    blurred = degrade(image, 15, blur=1.0)[0, 0, 4:11, 4:11].numpy()
    for row in range(7):
        for column in range(7):
            assert blurred[row, column] == pytest.approx(weights[row] * weights[column], abs=1e-6)


def test_images_of_a_batch_do_not_mix():
    images = torch.cat([pattern(16, seed) for seed in range(3)])
    for index in range(3):
        alone = degrade(images[index : index + 1], 8, blur=0.5)
        torch.testing.assert_close(degrade(images, 8, blur=0.5)[index : index + 1], alone)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"resolution": 0}, "from 1 to 8"),
        ({"resolution": 9}, "the side of the images, but got 9"),
        ({"resolution": 4, "filter": "bicubik"}, "Did you mean 'bicubic'"),
        ({"resolution": 4, "blur": -1.0}, "blur"),
        ({"resolution": 4, "blur": float("nan")}, "blur"),
    ],
)
def test_impossible_requests_are_refused(arguments, match):
    with pytest.raises(UsageError, match=match):
        degrade(pattern(8), **arguments)


@pytest.mark.parametrize(
    "images", [torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 9)]
)
def test_images_that_do_not_fit_are_refused(images):
    with pytest.raises(UsageError, match="must be float"):
        degrade(images, 4)

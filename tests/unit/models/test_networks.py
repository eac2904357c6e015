"""Networks by name: sizes, shapes, seeds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainables.errors import UsageError
from trainables.models import Network, build
from trainables.models.macs import count_macs
from trainables.models.network import fold
from trainables.spec import ARCHITECTURES, registry


def _small(name: str, **choices: int) -> Network:
    return build(name, **{"channels": 3, "classes": 7, "width": 0.05, **choices})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_220_132),
        ("resnet34", 21_328_292),
        ("resnet50", 23_705_252),
        ("vgg11", 9_277_284),
        ("resnet34_thin", 8_162_624 + 256 * 100 + 100),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = build(name, channels=3, classes=100)
    assert sum(weight.numel() for weight in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet18", 11_227_812), ("resnet34", 21_335_972), ("resnet50", 23_712_932)]
)
def test_the_large_stem_is_that_of_imagenet(name: str, parameters: int) -> None:
    network = build(name, channels=3, classes=100, stem="large")
    assert sum(weight.numel() for weight in network.parameters()) == parameters
    assert [m.shape[-1] for m in network.eval()(torch.zeros(1, 3, 96, 96), maps=True).maps] == [24, 12, 6, 3]


def test_networks_of_other_structure_have_no_large_stem() -> None:
    for name in ("vgg11", "resnet_thin", "resnet34_thin"):
        with pytest.raises(UsageError, match="`stem` must be small, or large for resnet18"):
            build(name, channels=3, classes=2, stem="large")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_maps_come_from_every_stage_and_change_nothing_else(name: str) -> None:
    network = _small(name).eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        plain, rich = network(images), network(images, maps=True)
    assert plain.maps == ()
    assert torch.equal(plain.logits, rich.logits) and torch.equal(plain.embedding, rich.embedding)
    assert tuple(m.shape[1] for m in rich.maps) == network.map_widths and len(rich.maps) >= 3
    sides = [m.shape[-1] for m in rich.maps]
    assert sides == sorted(sides, reverse=True) and sides[0] == 16
    torch.testing.assert_close(rich.maps[-1].mean((2, 3)), rich.embedding)


def test_pixels_are_their_own_embedding() -> None:
    images = torch.randn(2, 3, 5, 5)
    outputs = build("pixels", channels=3, classes=4)(images)
    assert torch.equal(outputs.embedding, images.reshape(2, -1))
    assert torch.equal(outputs.logits, torch.zeros(2, 4))


def test_multiply_adds_are_counted_on_the_network() -> None:
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, stride=2, padding=1, groups=2), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(6 * 5 * 5, 4)).train()
    # Pixels x channels out x inputs of each output.
    assert count_macs(network, channels=3, side=10) == 10 * 10 * 8 * 27 + 5 * 5 * 6 * 36 + 4 * 150
    assert network.training and not any(layer._forward_hooks for layer in network)
    assert count_macs(build("pixels", channels=3, classes=2), channels=3, side=10) == 0


def test_the_names_are_those_of_the_specs_and_of_the_functions() -> None:
    builders = {entry.name: entry.load() for entry in registry.entries("network")}
    assert set(builders) == set(ARCHITECTURES)
    assert all(name == builder.__name__ for name, builder in builders.items())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_embedding_layer_has_the_width_asked_for_and_feeds_the_classifier(name: str) -> None:
    network = _small(name, embedding=9, channels=1)
    outputs = network(torch.randn(2, 1, 8, 8))
    assert network.embedding_width == 9
    torch.testing.assert_close(outputs.logits, network.classifier(outputs.embedding))


def test_width_multiplies_all_channels_and_leaves_at_least_one() -> None:
    assert build("resnet_thin", channels=1, classes=2, width=0.5).embedding_width == 32
    assert build("resnet_thin", channels=1, classes=2, width=2.0).embedding_width == 128
    assert build("resnet_thin", channels=1, classes=2, width=0.001).embedding_width == 1


def test_vgg_skips_the_fourth_pooling_below_64_pixels() -> None:
    network = _small("vgg11").eval()
    sides = {side: network.trunk(torch.randn(1, 3, side, side)).shape[-1] for side in (8, 16, 32, 64)}
    assert sides == {8: 1, 16: 2, 32: 4, 64: 4}


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'resnet18'"):
        build("resnet81", channels=3, classes=2)


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"classes": 0}, {"width": 0}, {"embedding": -1}])
def test_impossible_numbers_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        _small("resnet_thin", **wrong)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_folded_network_says_the_same_without_normalisations(name: str) -> None:
    network = _small(name)
    network.train()
    draws = torch.Generator().manual_seed(0)
    for _ in range(3):
        network(
            torch.randn(8, 3, 16, 16, generator=draws) + 1
        )  # Running statistics that are not those of a new network.
    network.eval()
    images = torch.randn(4, 3, 16, 16, generator=draws)
    with torch.no_grad():
        before = network(images, maps=True)
        fold(network)
        after = network(images, maps=True)
    assert not [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for one, two in zip((*before[:2], *before.maps), (*after[:2], *after.maps), strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


def test_only_what_can_be_folded_is() -> None:
    def sequence() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    watched, listened, weighed = sequence(), sequence(), sequence()
    weighed[0] = nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))
    listened[1].register_forward_hook(lambda *_: None)
    watched[1] = nn.BatchNorm2d(4, track_running_stats=False)
    plain = sequence()
    network = nn.Sequential(watched, listened, weighed, plain).eval()
    fold(network)
    kept = [any(isinstance(layer, nn.BatchNorm2d) for layer in part) for part in (watched, listened, weighed, plain)]
    assert kept == [True, True, True, False]
    for part in (watched, listened, weighed, plain):
        assert part(torch.randn(2, 3, 5, 5)).isfinite().all()
